# SPDX-License-Identifier: Apache-2.0
"""An evaluation on disk, to go on with after an interruption: one NumPy archive, nothing pickled."""

from __future__ import annotations

import json
import time
from array import array
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.evaluation.state_folder import refuse_link
from lw_refinenet_ros.evaluation.tally import Evaluation, FrameScore, Listed, Worst
from lw_refinenet_ros.files import write_atomically
from lw_refinenet_ros.one_line import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lw_refinenet_ros.labels import LabelSet

__all__ = ['Checkpoint', 'load_state', 'remove_damaged_state', 'save_state']

FORMAT = 1
LEAST_S = 1.0  # between two checkpoints
MOST_COST = 0.02  # of the time is spent on them
PICTURES = ('image', 'truth', 'label', 'confidence')
NUMBERS = ('description', 'consecutive', 'position', 'segmented', 'first_ns')
STEADY = ('pairs', 'compared', 'same', 'threes', 'flickers')
LISTS = ('frames_alone', 'masks_alone', 'problems')


class Checkpoint:
    """Saves an evaluation now and then: a second apart at least, and never for more than 2 % of the time.

    Args:
        path: of the file.
        key: what the evaluation is made of; it goes on only with the same.

    """

    def __init__(self, path: Path, key: Mapping[str, str]) -> None:
        self._path, self._key = path, key
        self._next = time.monotonic() + LEAST_S

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() >= self._next

    def save(self, found: Evaluation, **more: Any) -> None:
        """Save now: the evaluation, and plain values that belong to it."""
        started = time.monotonic()
        save_state(self._path, found, self._key, more)
        now = time.monotonic()
        self._next = now + max(LEAST_S, (now - started) / MOST_COST)


def save_state(path: Path, found: Evaluation, key: Mapping[str, str], more: Mapping[str, Any]) -> None:
    """Write an evaluation; the file is the old or the new one, whenever the process is killed.

    Args:
        path: of the file.
        found: the evaluation, done or not.
        key: what it is made of.
        more: plain values that belong to it.

    """
    about = {
        'format': FORMAT,
        'key': dict(key),
        'more': dict(more),
        **{name: getattr(found, name) for name in NUMBERS},
        **{name: asdict(getattr(found, name)) for name in LISTS},
        'stability': {name: getattr(found.stability, name) for name in STEADY},
        'before_ns': [stamp_ns for stamp_ns, _ in found.stability.before],
        'names': found.frames.names,
        'stages': list(found.stages_ms),
        'worst': [{**asdict(worst.score), 'place': worst.place} for worst in found.worst],
    }
    arrays: dict[str, Any] = {
        'about': np.frombuffer(json.dumps(about).encode(), np.uint8),
        'confusion': found.confusion.matrix,
        'boundary': found.boundary.counts,
        'calibration': found.calibration.counts,
        'stamps_ns': found.frames.stamps_ns,
        'frame_times_s': found.frames.times_s,
        'counts': found.frames.counts,
        'times_s': found.times_s,
    }
    arrays |= {f'stage {index}': times for index, times in enumerate(found.stages_ms.values())}
    arrays |= {f'before {index}': label for index, (_, label) in enumerate(found.stability.before)}
    for index, worst in enumerate(found.worst):
        pictures = {name: getattr(worst, name) for name in PICTURES}
        arrays |= {f'{name} {index}': picture for name, picture in pictures.items() if picture is not None}

    def write(temporary: Path) -> None:
        with temporary.open('wb') as file:
            np.savez(file, **arrays)

    write_atomically(path, write)


def load_state(
    path: Path, labels: LabelSet, key: Mapping[str, str]
) -> tuple[Evaluation, dict[str, Any]] | None:
    """Read what `save_state` wrote, and the plain values; None where there is no such file.

    Raises:
        ValueError: the file is damaged, or of an evaluation of something else.

    """
    if not path.exists():
        return None
    evaluation, about = _load(path, labels)
    for name in {**about['key'], **key}:
        ours, theirs = key.get(name), about['key'].get(name)
        if ours != theirs:
            what = f'its {name} is {theirs}, now {ours}'
            msg = f'{path} is of another evaluation: {what}; remove it to start anew'
            raise ValueError(msg)
    return evaluation, about['more']


def remove_damaged_state(path: Path, labels: LabelSet) -> str:
    """Remove a state that cannot be read, so that its evaluation begins anew; return why, or nothing.

    Raises:
        ValueError: it is a link.

    """
    refuse_link(path)
    if path.is_file():
        try:
            _load(path, labels)
        except ValueError as error:
            path.unlink()
            return f'{error}: it is ignored'
    return ''


def _load(path: Path, labels: LabelSet) -> tuple[Evaluation, dict[str, Any]]:
    """Read an evaluation, and what was stored about it."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        about = json.loads(arrays['about'].tobytes())
        if about['format'] != FORMAT:
            msg = f'format {about["format"]} is not {FORMAT}'
            raise ValueError(msg)
        if not all(isinstance(about[name], dict) for name in ('key', 'more')):
            msg = 'entries of other types'
            raise TypeError(msg)
        return _evaluation(labels, about, arrays), about
    except Exception as error:  # damaged archives make NumPy, zipfile and zlib raise nearly anything
        msg = one_line(f'{path} is no state of an evaluation ({type(error).__name__}: {error})')
        raise ValueError(msg) from error


def _evaluation(
    labels: LabelSet, about: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
) -> Evaluation:
    """Put an evaluation together again."""
    found = Evaluation(labels, about['description'], about['consecutive'])
    for name in NUMBERS:
        setattr(found, name, about[name])
    for name in LISTS:
        setattr(found, name, Listed(**about[name]))
    for name in STEADY:
        setattr(found.stability, name, about['stability'][name])
    found.stability.before = [
        (stamp_ns, arrays[f'before {index}']) for index, stamp_ns in enumerate(about['before_ns'])
    ]
    found.confusion.matrix += arrays['confusion']
    found.boundary.counts += arrays['boundary']
    found.calibration.counts += arrays['calibration']
    frames = found.frames
    frames.names = about['names']
    frames.stamps_ns, frames.counts = array('q', arrays['stamps_ns']), array('q', arrays['counts'])
    frames.times_s, found.times_s = array('d', arrays['frame_times_s']), array('d', arrays['times_s'])
    found.stages_ms = {
        stage: array('d', arrays[f'stage {index}']) for index, stage in enumerate(about['stages'])
    }
    for index, entry in enumerate(about['worst']):
        place = entry.pop('place')
        entry |= {name: tuple(entry[name]) for name in ('intersection', 'union')}
        pictures = {name: arrays.get(f'{name} {index}') for name in PICTURES}
        found.worst.append(Worst(FrameScore(**entry), place, **pictures))  # type: ignore[arg-type]
    return found
