# SPDX-License-Identifier: Apache-2.0
"""Weights files: one safetensors file with a card that describes it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save

from lw_refinenet_ros.files import write_bytes
from lw_refinenet_ros.labels import LabelSet
from lw_refinenet_ros.model.card_check import check_card
from lw_refinenet_ros.model.limits import check_file, parse_json
from lw_refinenet_ros.model.network import Network, build_model, compare_shapes
from lw_refinenet_ros.one_line import one_line
from lw_refinenet_ros.resources import find_weights

__all__ = ['Card', 'WeightsError', 'is_weights_file', 'load_model', 'read_card', 'save_model']

CHECKPOINTS = ('.pth', '.pt', '.ckpt', '.tar')
SUFFIX = '.safetensors'
ENTRY = 'lw_refinenet_ros'  # of the safetensors header
_process = 0  # the first that loaded weights


class WeightsError(ValueError):
    """A weights file that cannot be used; the message names the file, the fault and the remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


@dataclass(frozen=True)
class Card:
    """A weights file's description of itself.

    Attributes:
        architecture: a name that `build_model` knows.
        width: channels of the decoder.
        labels: the classes.
        mean, std: of the input, per RGB channel, for values in [0, 1].
        temperature: divides the logits before the softmax of the confidence.
        training: what it was trained on and how, the data's licence included.
        metrics: what it reached, ratios as fractions of 1.
        source: the command or the checkpoint it came from.
        dials: arguments of `build_model` other than these that are not the published ones.
        quantization: what runs in int8, from `lw_refinenet quantize`; empty for float weights alone.
            `activations` lists {source, consumers, low, high}: the values that those nodes of the rewritten
            network take from that node lie in that range; `weights` names the convolutions whose weights
            are rounded, each output channel in a range of its own. `accuracy` is what that costs on frames
            that the ranges are not from: `frames`, `agreement` (the share of their pixels with the label of
            float32) and, if they had masks, `miou` and `float_miou`; fractions of 1.
    """

    architecture: str
    width: int
    labels: LabelSet
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    temperature: float = 1.0
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    source: str = ''
    dials: dict[str, Any] = field(default_factory=dict)
    quantization: dict[str, Any] = field(default_factory=dict)

    @property
    def least_size(self) -> tuple[int, int]:
        """(height, width) that smaller images are enlarged to; 0 is as they are."""
        height, width = self.dials.get('least_size', (0, 0))
        return int(height), int(width)

    @property
    def num_classes(self) -> int:
        """Number of classes, the unlabelled not counted."""
        return len(self.labels.names)

    @classmethod
    def from_dict(cls, mapping: dict[str, Any]) -> Card:
        """Build from the names and values of the attributes; `labels` as `LabelSet.from_dict` takes them.

        Raises:
            ValueError, TypeError: something is missing, unknown, of another type or out of its range.
        """
        card = cls(**mapping)
        check_card(vars(card))
        return replace(card, labels=LabelSet.from_dict(mapping['labels']))

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes."""
        return asdict(self) | {'labels': self.labels.to_dict()}


def save_model(
    path: str | os.PathLike[str], model: Network, card: Card, dtype: torch.dtype = torch.float16
) -> None:
    """Store a network with its card; the file appears whole or not at all."""
    path = Path(path)
    tensors = {
        name: (t.to(dtype) if t.is_floating_point() else t).detach().cpu().contiguous()
        for name, t in model.state_dict().items()
        if not name.endswith('num_batches_tracked')
    }
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            kind = str(dtype).removeprefix('torch.')
            raise WeightsError(f'{name} has values that {kind} cannot hold; {path} was not written')
    header = {ENTRY: json.dumps(card.to_dict(), ensure_ascii=False)}
    path.parent.mkdir(parents=True, exist_ok=True)
    content = save(tensors, metadata=header)  # save_file has errors of its own for those of the disk
    write_bytes(path, content)


def is_weights_file(path: Path) -> bool:
    """Return whether a file is safetensors with a card."""
    try:
        with safe_open(path, framework='pt') as file:
            return ENTRY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def read_card(weights: str | os.PathLike[str]) -> Card:
    """Read the card of a weights file, without its tensors.

    Args:
        weights: the name of a shipped file, or a path.

    Raises:
        WeightsError: the file is missing, not safetensors, truncated, or its card is unusable.
    """
    path = _find(weights)
    try:
        check_file(path)
    except OSError as error:
        raise WeightsError(f'{path}: {error.strerror}; name a weights file, or shipped weights') from error
    except ValueError as error:
        raise WeightsError(str(error)) from error
    try:
        with safe_open(path, framework='pt') as file:
            entry = (file.metadata() or {}).get(ENTRY)
    except (SafetensorError, OSError) as error:
        if path.suffix not in (SUFFIX, *CHECKPOINTS):
            raise WeightsError(f'{path} is no weights file ({SUFFIX})') from error
        hint = '; `lw_refinenet import` reads checkpoints of PyTorch' if path.suffix in CHECKPOINTS else ''
        raise WeightsError(f'{path} is not a complete safetensors file: {error}{hint}') from error
    if entry is None:
        raise WeightsError(f'{path} has no {ENTRY!r} entry: make it with `lw_refinenet import`')
    try:
        return Card.from_dict(parse_json(entry))
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise WeightsError(f'{path}: its {ENTRY!r} entry cannot be used: {error}') from error


def load_model(weights: str | os.PathLike[str]) -> tuple[Network, Card]:
    """Load a network from its weights file.

    Args:
        weights: the name of a shipped file, or a path.

    Returns:
        the network in evaluation mode with float32 parameters, and its card.

    Raises:
        WeightsError: the file cannot be used, or its tensors do not fit the architecture it names; or the
            process was forked from one that has loaded weights.
    """
    _check_process()
    path = _find(weights)
    card = read_card(path)
    try:
        with torch.device('meta'):  # the tensors come from the file
            model = build_model(card.architecture, card.num_classes, width=card.width, **card.dials)
        with safe_open(path, framework='pt') as file:
            names = list(file.keys())
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            expected = {
                name: tuple(t.shape)
                for name, t in model.state_dict().items()
                if not name.endswith('num_batches_tracked')
            }
            if faults := compare_shapes(shapes, expected):
                raise WeightsError(f'{path} does not fit the architecture that it names: {faults}')
        tensors = load(path.read_bytes())  # get_tensor of safetensors 0.8 leaks 15 kB for each file
        tensors = {name: tensors[name].float() for name in expected}
    except KeyError as error:
        raise WeightsError(f'{path} has tensors of type {error}: store them as fp16 or fp32') from error
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f'{path}: {error}') from error
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise WeightsError(
                f'{path}: {name} has values that are not finite; the file is damaged or its training diverged'
            )
        if name.endswith('running_var') and bool((tensor < 0).any()):
            raise WeightsError(f'{path}: {name} has negative variances: the file is damaged')
    counters = {name: torch.tensor(0) for name in model.state_dict() if name not in tensors}
    model.load_state_dict(tensors | counters, assign=True)
    return model.eval(), card


def _check_process() -> None:
    """Refuse what would hang for ever: threads of PyTorch's parent process, which a fork does not copy."""
    global _process
    _process = _process or os.getpid()
    if _process != os.getpid() and torch.get_num_threads() > 1:
        raise WeightsError(
            'this process was forked from one that has loaded weights, in which PyTorch hangs: start it by '
            "multiprocessing.get_context('spawn'), or call torch.set_num_threads(1) before"
        )


def _find(weights: str | os.PathLike[str]) -> Path:
    try:
        return find_weights(weights)
    except ValueError as error:
        raise WeightsError(str(error)) from error
