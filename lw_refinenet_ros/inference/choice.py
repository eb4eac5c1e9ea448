# SPDX-License-Identifier: Apache-2.0
"""Which engine runs a network on this machine, and why."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lw_refinenet_ros.inference.cpu_quota import threads_within_quota
from lw_refinenet_ros.inference.engine import DEVICES, ENGINES, PRECISIONS, Engine, EngineError
from lw_refinenet_ros.inference.measured import Choice, read_measured
from lw_refinenet_ros.model.network import Network
from lw_refinenet_ros.model.weights import Card

__all__ = [
    'LEAST_AGREEMENT',
    'Here',
    'accuracy_of_int8',
    'choose',
    'has_bf16',
    'inaccuracy_of_int8',
    'machine_here',
    'make_engine',
]

LEAST_AGREEMENT = 0.98  # of int8's labels with those of float32, for 'auto' to take int8
MOST_MIOU_LOST = 0.005  # likewise, where that was measured

MEASURED = 'the fastest here by `lw_refinenet benchmark --save`'


@dataclass(frozen=True)
class Here:
    """What the choice depends on besides the request and the weights."""

    cuda: bool  #: whether PyTorch finds a CUDA device
    #: The precisions that OpenVINO computes natively on this CPU; none where it is not installed
    openvino: frozenset[str]
    #: What `benchmark --save` measured for the network's architecture, fastest first
    measured: Sequence[Choice] = ()


def make_engine(
    network: Network, card: Card, *, device: str, engine: str, precision: str, threads: int
) -> Engine:
    """Choose and create an engine; a request other than 'auto' is kept or refused, never replaced.

    Raises:
        EngineError: this machine cannot do what was asked for.
    """
    if threads < 0:
        raise EngineError(f'threads={threads} must be 0 (all cores) or more')
    quota = threads_within_quota() if not threads else 0
    if 0 < quota < (os.cpu_count() or 1):
        threads = quota
    choice, why = choose(Choice(engine, device, precision), card, machine_here(card.architecture))
    created = _create(network, card, choice, threads)
    created.description += f'; {why}'
    if threads and threads == quota and created.device == 'cpu':
        created.description += '; as many threads as the CPU quota allows'
    return created


def choose(wanted: Choice, card: Card, here: Here) -> tuple[Choice, str]:
    """Return what runs weights on a machine, and why that.

    What was measured there comes first, then what is usually the fastest: CUDA in fp16, OpenVINO, PyTorch.
    'auto' takes int8 only on a CPU without native bf16, and where by its card int8 keeps the
    accuracy.

    Args:
        wanted: 'auto' is anything, the rest is kept.
        card: of the weights.
        here: the machine.

    Raises:
        EngineError: the machine cannot do what is wanted.
    """
    _check(wanted, card, here)
    if 'auto' not in wanted:
        return wanted, 'asked for'
    against_int8 = '' if wanted.precision == 'int8' else _against_int8(card, here)
    note = f'; int8 is not used: {against_int8}' if against_int8 and card.quantization else ''
    for choice in here.measured:
        if not _fits(choice, wanted) or (choice.precision == 'int8' and against_int8):
            continue
        asked = ' '.join(value for value in wanted if value != 'auto')
        return choice, f'{MEASURED}{f", of {asked}" if asked else ""}{note}'
    engine, device, precision = wanted
    if device == 'auto':
        device = 'cuda' if here.cuda and engine != 'openvino' and precision != 'int8' else 'cpu'
    if engine == 'auto':
        engine = 'openvino' if device == 'cpu' and here.openvino else 'torch'
    if precision != 'auto':
        return Choice(engine, device, precision), f'{precision} was asked for'
    if engine == 'torch':
        return Choice(engine, device, 'fp16' if device == 'cuda' else 'fp32'), 'the default there'
    if not against_int8:
        agreement = card.quantization['accuracy']['agreement']
        why = f"no native bf16, and int8 gives float32's label on {agreement:.2%} of the pixels"
        return Choice(engine, device, 'int8'), why
    if 'bf16' in here.openvino:
        return Choice(engine, device, 'bf16'), 'native here'
    return Choice(engine, device, 'fp32'), f'no native bf16{note}'


def _check(wanted: Choice, card: Card, here: Here) -> None:
    """Refuse what is unknown, or what the machine or the weights do not have."""
    engine, device, precision = wanted
    for name, value, known in (
        ('device', device, DEVICES),
        ('engine', engine, ENGINES),
        ('precision', precision, PRECISIONS),
    ):
        if value not in known:
            raise EngineError(f'{name} {value!r} is unknown: choose one of {", ".join(known)}')
    if device == 'cuda' and not here.cuda:
        raise EngineError(
            "device 'cuda' was asked for, but PyTorch finds no CUDA device: install a CUDA build or use 'cpu'"
        )
    if engine == 'openvino' and not here.openvino:
        raise EngineError("engine 'openvino' is not installed: pip install openvino, or use 'torch'")
    if engine == 'openvino' and device == 'cuda':
        raise EngineError("engine 'openvino' does not run on 'cuda': use engine 'torch' or device 'cpu'")
    if precision == 'int8' and not card.quantization:
        raise EngineError("precision 'int8' needs ranges these weights lack: run `lw_refinenet quantize`")
    if precision == 'int8' and (engine == 'torch' or device == 'cuda' or 'int8' not in here.openvino):
        where, remedy = f'engine {engine!r} on {device!r}', "engine 'openvino', or "
        if 'int8' not in here.openvino:
            where, remedy = 'this machine' if here.openvino else 'this machine without it', ''
        raise EngineError(
            f"precision 'int8' runs in OpenVINO on an x86 CPU, not on {where}: use {remedy}precision 'auto', "
            'which takes the float weights'
        )


def _fits(choice: Choice, wanted: Choice) -> bool:
    return all(want in ('auto', has) for want, has in zip(wanted, choice))


def _against_int8(card: Card, here: Here) -> str:
    """Return why 'auto' does not take int8; nothing if it does."""
    if not card.quantization:
        return 'the weights have no ranges'
    if 'int8' not in here.openvino:
        return 'it runs in OpenVINO on x86 only'
    if 'bf16' in here.openvino:
        return 'bf16 is native here'
    return inaccuracy_of_int8(card)


def inaccuracy_of_int8(card: Card) -> str:
    """Return what 'auto' objects to in the accuracy in `Card.quantization`; nothing if it takes int8."""
    accuracy = card.quantization.get('accuracy', {})
    if not accuracy:
        return accuracy_of_int8(card)
    if accuracy['agreement'] < LEAST_AGREEMENT:
        return f'{accuracy_of_int8(card)}, less than {LEAST_AGREEMENT:.0%}'
    if 'miou' in accuracy and accuracy['float_miou'] - accuracy['miou'] > MOST_MIOU_LOST:
        return f'{accuracy_of_int8(card)}, more than {100 * MOST_MIOU_LOST:g} points less'
    return ''


def accuracy_of_int8(card: Card) -> str:
    """Describe the accuracy in `Card.quantization`."""
    accuracy = card.quantization.get('accuracy')
    if not accuracy:
        return 'its accuracy was not measured; `lw_refinenet quantize` does'
    agreement = f"it gives float32's label on {accuracy['agreement']:.2%} of the pixels"
    if 'miou' not in accuracy:
        return agreement
    return f'{agreement} and mIoU {accuracy["miou"]:.1%} instead of {accuracy["float_miou"]:.1%}'


def machine_here(architecture: str = '') -> Here:
    """Describe this machine, with the engines measured for an architecture."""
    if importlib.util.find_spec('openvino') is None:
        native: frozenset[str] = frozenset()
    else:
        from lw_refinenet_ros.inference.openvino_engine import native_precisions

        native = native_precisions()
    return Here(torch.cuda.is_available(), native, read_measured(architecture))


def has_bf16(device: str) -> bool:
    """Return whether 'cpu' or 'cuda' computes bf16 natively; emulated, it is slower than fp32."""
    return device == 'cuda' or 'bf16' in machine_here().openvino


def _create(network: Network, card: Card, choice: Choice, threads: int) -> Engine:
    if choice.engine == 'openvino':
        from lw_refinenet_ros.inference.openvino_engine import OpenVINOEngine

        return OpenVINOEngine(network, card, precision=choice.precision, threads=threads)
    if choice.device == 'cuda':
        from lw_refinenet_ros.inference.cuda.engine import CudaEngine

        return CudaEngine(network, card, precision=choice.precision)
    from lw_refinenet_ros.inference.torch_engine import TorchEngine

    return TorchEngine(network, card, device=choice.device, precision=choice.precision, threads=threads)
