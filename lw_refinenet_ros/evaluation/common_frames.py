# SPDX-License-Identifier: Apache-2.0
"""Saved evaluations, and the frames that all of them have."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.evaluation.bootstrap import sum_blocks

__all__ = ['CommonFrames', 'check_same_classes', 'read_evaluation']


@dataclass(frozen=True, eq=False)
class CommonFrames:
    """The frames of the same stamp and name in two or more evaluations."""

    #: Stamp in ns, 0 of images of a folder, and name of each, in the order of the first evaluation
    keys: Sequence[tuple[int, str]]
    recordings: Sequence[str]  #: of each the recording; '' where there is only one
    counts: npt.NDArray[np.int64]  #: int64 (evaluations, frames, 2, classes), intersection and union
    blocks: npt.NDArray[np.int64]  #: the same, summed over the frames that are resampled together
    missing: Sequence[Sequence[str]]  #: of each evaluation, the names of its frames that are not in all
    consecutive: bool  #: whether the frames follow each other in time

    @classmethod
    def of(cls, evaluations: Sequence[Mapping[str, Any]], block_s: float) -> CommonFrames:
        """Find them.

        Args:
            evaluations: as `read_evaluation` returns them.
            block_s: length in s of the blocks that are resampled; 0 resamples single frames.

        Raises:
            ValueError: the classes differ, no frame is common, or blocks are asked for of frames that do not
                follow each other.
        """
        first, *others = evaluations
        for other in others:
            check_same_classes(first['classes'], other['classes'])
        consecutive = all(evaluation.get('consecutive', True) for evaluation in evaluations)
        if block_s and not consecutive:
            raise ValueError(
                f'--block {block_s:g} is for recordings: images of a folder do not follow each other in time'
            )
        rows = [_rows(evaluation) for evaluation in evaluations]
        keys = [key for key in rows[0] if all(key in each for each in rows)]
        if not keys:
            sizes = ' and '.join(str(len(each)) for each in rows)
            common = 'both' if len(rows) == 2 else 'all'
            raise ValueError(f'no frame is in {common}: {sizes} frames, and no stamp and name in common')
        counts = np.array([[_counts(e, r[key]) for key in keys] for e, r in zip(evaluations, rows)], np.int64)
        of_rows = _recordings(first)
        recordings = [of_rows[rows[0][key]] for key in keys]
        places = [(recording, stamp_ns) for recording, (stamp_ns, _) in zip(recordings, keys)]
        known = set(keys)
        missing = [[name for stamp_ns, name in each if (stamp_ns, name) not in known] for each in rows]
        return cls(keys, recordings, counts, sum_blocks(counts, places, block_s), missing, consecutive)


def check_same_classes(ours: Sequence[str], theirs: Sequence[str]) -> None:
    """Refuse two lists of class names that differ, with a ValueError."""
    if list(ours) != list(theirs):
        names = f'{", ".join(ours)}; and {", ".join(theirs)}'
        raise ValueError(f'the classes differ and cannot be compared: {names}')


def read_evaluation(path: Path) -> dict[str, Any]:
    """Read what `evaluate --json` wrote.

    Raises:
        ValueError: it is not that, or not there.
    """
    remedy = 'to compare weights give a --bag or --images, and --labels'
    if not path.is_file():
        what = 'a folder' if path.is_dir() else 'not there'
        raise ValueError(f'{path} is {what}: use a file written by evaluate --json; {remedy}')
    try:
        evaluation = json.loads(path.read_text('utf-8'))
        frames, classes = evaluation['per_frame'], len(evaluation['classes'])
        lengths = {len(frames[key]) for key in ('name', 'stamp_ns', 'intersection', 'union')}
        widths = {len(row) for key in ('intersection', 'union') for row in frames[key]}
    except UnicodeDecodeError as error:  # a video, a picture, weights
        raise ValueError(f'{path} is no text: use a file written by evaluate --json; {remedy}') from error
    except (ValueError, KeyError, TypeError) as error:
        reason = f'it has no {error}' if isinstance(error, KeyError) else f'{type(error).__name__}: {error}'
        raise ValueError(f'{path} is not the --json of an evaluation: {reason}; {remedy}') from error
    if len(lengths) != 1 or widths - {classes}:
        raise ValueError(f'{path} is damaged: its per_frame lists differ in length')
    return dict(evaluation)


def _rows(evaluation: Mapping[str, Any]) -> dict[tuple[int, str], int]:
    """Return the row of each frame by stamp and name; the stamp of a folder's image is but its place."""
    frames = evaluation['per_frame']
    stamps = frames['stamp_ns'] if evaluation.get('consecutive', True) else itertools.repeat(0)
    return {key: row for row, key in enumerate(zip(stamps, frames['name']))}


def _recordings(evaluation: Mapping[str, Any]) -> list[str]:
    """Return the recording that each row of an evaluation is of; '' where there is only one."""
    counts = {name: figures['frames'] for name, figures in evaluation.get('bags', {}).items()}
    names = [name for name, count in counts.items() for _ in range(count)]
    return names or [''] * len(evaluation['per_frame']['name'])


def _counts(evaluation: Mapping[str, Any], row: int) -> tuple[list[int], list[int]]:
    frames = evaluation['per_frame']
    return frames['intersection'][row], frames['union'][row]
