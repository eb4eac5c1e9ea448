# SPDX-License-Identifier: Apache-2.0
"""The folder of a training run: its state for resuming, and its log."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lw_refinenet_ros.files import write_bytes, write_csv, write_text
from lw_refinenet_ros.training.curves import draw_curves

__all__ = ['RunFolder']

STATE = 'state.safetensors'
FILES = (STATE, 'last.safetensors', 'best.safetensors', 'log.csv', 'curves.svg')
COLUMNS = ('epoch', 'loss', 'miou', 'seconds')
HEX = '[0-9a-f]'


class RunFolder:
    """Reads and atomically writes the files of a run, except the weights."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def check_space(self, values: int) -> None:
        """Check that the disk has room for the files of a run, whose network has so many values.

        Raises:
            ValueError: the disk has too little free space.
        """
        # 4 bytes each for values, average and two moments, old and new; 2 bytes for last, best, new
        needed = values * (2 * 4 * 4 + 3 * 2)
        there = sum(file.stat().st_size for name in FILES if (file := self.path / name).is_file())
        folder = next(each for each in (self.path, *self.path.absolute().parents) if each.exists())
        free = shutil.disk_usage(folder).free
        if free + there < needed:
            raise ValueError(
                f'{folder} has {free >> 20} MiB free; the files of a run need {needed >> 20}: '
                'free some space, or choose another folder'
            )

    def remove_leftovers(self) -> None:
        """Remove temporary files that a killed process left behind."""
        for name in FILES:
            for leftover in self.path.glob(f'.{name}.{HEX * 16}.tmp'):
                leftover.unlink()

    def save(self, meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Write the state, and its `log`, rows of `COLUMNS`, as a table and as curves."""
        log = meta['log']
        stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_bytes(self.path / STATE, save(stored, metadata={'state': json.dumps(dict(meta))}))
        write_csv(self.path / 'log.csv', [COLUMNS, *(map(row.get, COLUMNS) for row in log)])
        write_text(self.path / 'curves.svg', draw_curves(log))

    def load(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """Return the plain values and the tensors of the state; None if there is none.

        Raises:
            ValueError: the file is damaged or not a state.
        """
        path = self.path / STATE
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework='pt') as file:
                meta = json.loads(file.metadata()['state'])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            _ = meta['epoch'], meta['log'], meta['made_of']
        except (SafetensorError, ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f'{path} is not the state of a run: remove it to start over, or choose another folder'
            ) from error
        return meta, tensors
