# SPDX-License-Identifier: Apache-2.0
"""Which engine runs a network on this machine."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import torch

from lw_refinenet_ros.inference.engine import DEVICES, ENGINES, PRECISIONS, EngineError
from lw_refinenet_ros.inference.measured import Choice, fastest

if TYPE_CHECKING:
    from lw_refinenet_ros.inference.engine import Engine
    from lw_refinenet_ros.model.network import Network
    from lw_refinenet_ros.model.weights import Card

__all__ = ['make_engine']


def make_engine(
    network: Network, card: Card, *, device: str, engine: str, precision: str, threads: int
) -> Engine:
    """Choose and make an engine; what is not 'auto' is kept or refused, never replaced.

    'auto' takes what `lw_refinenet benchmark --save` found to be the fastest here, if it did; weights
    with int8 ranges run in OpenVINO.

    Raises:
        EngineError: this machine cannot do what was asked for.

    """
    for name, value, known in (
        ('device', device, DEVICES),
        ('engine', engine, ENGINES),
        ('precision', precision, PRECISIONS),
    ):
        if value not in known:
            msg = f'{name} {value!r} is unknown: choose one of {", ".join(known)}'
            raise EngineError(msg)
    if threads < 0:
        msg = f'threads={threads} must be 0 (all cores) or more'
        raise EngineError(msg)
    if device == 'cuda' and not torch.cuda.is_available():
        msg = (
            "device 'cuda' was asked for, but PyTorch finds no CUDA device: install a CUDA build or use 'cpu'"
        )
        raise EngineError(msg)
    has_openvino = _has_openvino()
    if engine == 'openvino' and not has_openvino:
        msg = "engine 'openvino' is not installed: pip install openvino, or use 'torch'"
        raise EngineError(msg)
    if engine == 'openvino' and device == 'cuda':
        msg = "engine 'openvino' does not run on 'cuda': use engine 'torch' or device 'cpu'"
        raise EngineError(msg)
    if precision == 'int8' and not card.quantization:
        msg = "precision 'int8' needs ranges, and these weights have none: run `lw_refinenet quantize`"
        raise EngineError(msg)
    if card.quantization and precision in ('auto', 'int8'):
        if engine == 'torch' or device == 'cuda' or not has_openvino:
            msg = (
                f'these weights have int8 ranges, which only OpenVINO on the CPU can use, not '
                f'{"this machine without it" if not has_openvino else f"{engine!r} on {device!r}"}: '
                "use engine 'openvino' or precision 'fp32'"
            )
            raise EngineError(msg)
        device, engine = 'cpu', 'openvino'
    measured = fastest(card.architecture, Choice(engine, device, precision), int8=bool(card.quantization))
    note = ''
    if measured and 'auto' in (engine, device, precision):
        engine, device, precision = measured
        note = '; the fastest here by `lw_refinenet benchmark --save`'
    made = _make(network, card, device=device, engine=engine, precision=precision, threads=threads)
    made.description += note
    return made


def _make(network: Network, card: Card, *, device: str, engine: str, precision: str, threads: int) -> Engine:
    """Make an engine; 'auto' takes what is usually the fastest."""
    if device == 'auto':
        device = 'cuda' if torch.cuda.is_available() and engine != 'openvino' else 'cpu'
    if engine == 'auto':
        engine = 'openvino' if device == 'cpu' and _has_openvino() else 'torch'
    if engine == 'openvino':
        from lw_refinenet_ros.inference.openvino_engine import OpenVINOEngine

        return OpenVINOEngine(network, card, precision=precision, threads=threads)
    if device == 'cuda':
        from lw_refinenet_ros.inference.cuda_engine import CudaEngine

        return CudaEngine(network, card, precision=precision)
    from lw_refinenet_ros.inference.torch_engine import TorchEngine

    return TorchEngine(network, card, device=device, precision=precision, threads=threads)


def _has_openvino() -> bool:
    return importlib.util.find_spec('openvino') is not None
