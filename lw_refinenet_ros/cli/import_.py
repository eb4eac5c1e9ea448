# SPDX-License-Identifier: Apache-2.0
"""Convert a published checkpoint of (Light-Weight) RefineNet to one self-describing weights file."""

from __future__ import annotations

import argparse
import pickle
import re
import stat
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lw_refinenet_ros.cli.outputs import WEIGHTS, Declared, Output
from lw_refinenet_ros.one_line import counted, one_line

if TYPE_CHECKING:
    from lw_refinenet_ros.labels import LabelSet

__all__ = ['add_arguments', 'outputs', 'read_checkpoint', 'run']

MAX_BYTES = 4 << 30  # uncompressed size of a checkpoint; the largest, with its optimizer's state, has 1 GB
LONGEST = 200  # characters of PyTorch's message
REMEDY = 'save the tensors alone: torch.save(model.state_dict(), FILE)'
LABEL_SETS = ('voc', 'nyu40', 'person_part', 'context', 'camvid', 'cityscapes')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('checkpoint', type=Path, metavar='CHECKPOINT', help='.pth.tar, .ckpt, ...')
    parser.add_argument('--output', type=Path, required=True, metavar='FILE', help='.safetensors to write')
    parser.add_argument(
        '--labels',
        metavar='NAME|FILE',
        help=f'{", ".join(LABEL_SETS)} or a .yaml file (default: the set with that many classes)',
    )
    parser.add_argument('--architecture', metavar='NAME', help='(default: the one whose tensors match)')


def outputs(options: argparse.Namespace) -> Declared:
    return [Output('--output', options.output, WEIGHTS)], [options.checkpoint, options.labels]


def run(options: argparse.Namespace) -> None:
    """Read the checkpoint, compare it, and write it if everything matches."""
    import torch

    from lw_refinenet_ros.model.upstream import network_from_upstream
    from lw_refinenet_ros.model.weights import Card, save_model

    try:
        architecture, network = network_from_upstream(
            read_checkpoint(options.checkpoint), options.architecture
        )
    except ValueError as error:
        raise ValueError(f'{options.checkpoint}: {error}') from error
    num_classes = network.decoder.classifier.out_channels
    labels = _labels(options.labels, num_classes)
    card = Card(
        architecture=architecture,
        width=256,
        labels=labels,
        mean=network.encoder.mean,
        std=network.encoder.std,
        source=f'lw_refinenet import {options.checkpoint.name}',
    )
    save_model(options.output, network, card, torch.float32)  # lossless
    print(f'{options.output}: {architecture}, {counted(num_classes, "class")} of {labels.name}')


def read_checkpoint(path: Path) -> Any:
    """Load tensors, containers and the NumPy scalars of upstream's training states, without running any code.

    Raises:
        ValueError: the file is damaged, or holds anything else, which might run code.
    """
    import numpy as np
    import torch

    scalar = np.float64(0).__reduce__()[0]
    allowed: list[Any] = [
        np.dtype,
        *{type(np.dtype(code)) for code in np.typecodes['AllInteger'] + np.typecodes['Float'] + '?'},
        # NumPy 1 and 2 use different names of one function
        *((scalar, f'numpy.{core}.multiarray.scalar') for core in ('core', '_core')),
    ]
    _check_size(path)
    try:
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter('ignore')  # about formats; unreadable files raise anyway
            return torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r'GLOBAL (\S+)', str(error))
        what = f'{found[1][:100]}, which might run code' if found else 'more than tensors and numbers'
        raise ValueError(f'refused without running any of it: it holds {what}; {REMEDY}') from error
    except MemoryError as error:
        raise ValueError('out of memory: the file is damaged, or too large for this machine') from error
    except (RuntimeError, EOFError) as error:
        if 'TorchScript' in str(error):
            raise ValueError(f'a TorchScript program, not a checkpoint; {REMEDY}') from error
        reason = one_line((str(error).splitlines() or ['it ends'])[0])[:LONGEST]
        raise ValueError(f'not a complete PyTorch checkpoint: {reason}') from error
    except Exception as error:  # damaged bytes raise anything; none of its code runs
        raise ValueError(f'not a PyTorch checkpoint, or a damaged one ({type(error).__name__})') from error


def _check_size(path: Path) -> None:
    """Check that a checkpoint is a regular file of plausible uncompressed size."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError('not a regular file')
    size = status.st_size
    with path.open('rb') as file:
        if zipfile.is_zipfile(file):
            try:
                with zipfile.ZipFile(file) as archive:
                    size = max(size, sum(entry.file_size for entry in archive.infolist()))
            except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
                raise ValueError(f'not a complete PyTorch checkpoint: {str(error)[:LONGEST]}') from error
    if size > MAX_BYTES:
        raise ValueError(f'{size} bytes, unpacked, are more than the {MAX_BYTES} that a checkpoint may have')


def _labels(name: str | None, num_classes: int) -> LabelSet:
    """Find the label set and check that it has as many classes as the network."""
    from lw_refinenet_ros.labels import LabelSet
    from lw_refinenet_ros.resources import share_path

    shipped = {n: LabelSet.from_yaml(share_path(f'config/labels/{n}.yaml')) for n in LABEL_SETS}
    counts = ', '.join(f'{n} {len(labels.names)}' for n, labels in shipped.items())
    if name is None:
        fitting = [labels for labels in shipped.values() if len(labels.names) == num_classes]
        if not fitting:
            classes = counted(num_classes, 'class')
            raise ValueError(f'no shipped set has {classes} ({counts}); use --labels FILE.yaml')
        return fitting[0]
    labels = shipped[name] if name in shipped else LabelSet.from_yaml(name)
    if len(labels.names) != num_classes:
        classes = counted(len(labels.names), 'class')
        raise ValueError(f'{name} has {classes}, the checkpoint {num_classes} ({counts})')
    return labels
