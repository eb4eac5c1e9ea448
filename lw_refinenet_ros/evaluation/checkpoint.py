# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of an evaluation, to resume it after an interruption: one NumPy archive, nothing pickled."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lw_refinenet_ros.evaluation.evaluation import Evaluation
from lw_refinenet_ros.evaluation.state_folder import refuse_link
from lw_refinenet_ros.files import new_file
from lw_refinenet_ros.labels import LabelSet
from lw_refinenet_ros.one_line import one_line

__all__ = ['Checkpoint', 'remove_damaged']

FORMAT = 3
LEAST_S = 1.0  # between two checkpoints
MOST_COST = 0.02  # share of the time spent on them


class Checkpoint:
    """Saves an evaluation at most once a second, and spends at most 2 % of the time on it.

    Args:
        path: of the file.
        key: what the evaluation depends on; it resumes only if all of it is unchanged.
    """

    def __init__(self, path: Path, key: Mapping[str, str]) -> None:
        self._path, self._key = path, key
        self._next = time.monotonic() + LEAST_S

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() >= self._next

    def save(self, evaluation: Evaluation, **more: Any) -> None:
        """Save now; after a kill, the file is either the old or the new one.

        Args:
            evaluation: done or not.
            more: plain values that belong to it.
        """
        started = time.monotonic()
        about = json.dumps({'format': FORMAT, 'key': dict(self._key), 'more': more}).encode()
        arrays = {'about': np.frombuffer(about, np.uint8), **evaluation.to_arrays()}
        with new_file(self._path) as temporary, temporary.open('wb') as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        now = time.monotonic()
        self._next = now + max(LEAST_S, (now - started) / MOST_COST)

    def load(self, evaluation: Evaluation) -> dict[str, Any]:
        """Restore an evaluation and return the plain values saved with it; {} if nothing was saved.

        Raises:
            ValueError: the file is damaged, or of an evaluation of something else.
        """
        if not self._path.exists():
            return {}
        about = _restore(self._path, evaluation)
        for name in {**about['key'], **self._key}:
            ours, theirs = self._key.get(name), about['key'].get(name)
            if ours != theirs:
                what = f'its {name} is {theirs}, now {ours}'
                raise ValueError(f'{self._path} is of another evaluation: {what}; remove it to start over')
        return dict(about['more'])


def remove_damaged(path: Path, labels: LabelSet) -> str:
    """Remove an unreadable checkpoint, so that its evaluation starts over; return the reason, or ''.

    Raises:
        ValueError: it is a link.
    """
    refuse_link(path)
    if path.is_file():
        try:
            _restore(path, Evaluation(labels, '', consecutive=False))
        except ValueError as error:
            path.unlink()
            return f'{error}: it is ignored'
    return ''


def _restore(path: Path, evaluation: Evaluation) -> dict[str, Any]:
    """Restore an evaluation and return what was stored about it."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        about: dict[str, Any] = json.loads(arrays.pop('about').tobytes())
        if about['format'] != FORMAT:
            raise ValueError(f'format {about["format"]} is not {FORMAT}')
        if not all(isinstance(about[name], dict) for name in ('key', 'more')):
            raise TypeError('entries of other types')
        evaluation.restore(arrays)
    except Exception as error:  # damaged archives make NumPy, zipfile and zlib raise nearly anything
        raise ValueError(
            one_line(f'{path} is not a checkpoint of an evaluation ({type(error).__name__}: {error})')
        ) from error
    return about
