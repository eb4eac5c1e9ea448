# SPDX-License-Identifier: Apache-2.0
"""Masks of class ids: from a topic beside the frames, or from a folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from lw_refinenet_ros.image.frame import Frame, Pixels
from lw_refinenet_ros.image.label_png import foreign_color, read_label_png
from lw_refinenet_ros.labels import LabelSet
from lw_refinenet_ros.one_line import counted, reason
from lw_refinenet_ros.sources.images import masks_in
from lw_refinenet_ros.sources.source import SourceError

__all__ = ['MaskStream', 'Problem', 'find_masks', 'read_mask']

Problem = Callable[[str], None]
MONO = ('mono8', '8UC1')


class MaskStream:
    """Label images looked up by stamp while a stream of them passes by.

    Only those that were passed and are still wanted are held: none, where both streams are in order.
    """

    def __init__(self, frames: Iterable[Frame], wanted: set[int], problem: Problem) -> None:
        self._frames, self._wanted, self._problem = iter(frames), wanted, problem
        self._held: dict[int, Pixels | None] = {}

    def take(self, stamp_ns: int) -> Pixels | None:
        """Return the label image of a wanted stamp, uint8 (H, W), once; None if there is none."""
        while stamp_ns not in self._held and stamp_ns in self._wanted:
            frame = next(self._frames, None)
            if frame is None:
                self._wanted.clear()
            elif frame.stamp_ns in self._wanted:
                self._wanted.remove(frame.stamp_ns)
                self._held[frame.stamp_ns] = self._label(frame)
        return self._held.pop(stamp_ns, None)

    def _label(self, frame: Frame) -> Pixels | None:
        if frame.encoding not in MONO or frame.step < frame.width:
            self._problem(
                f'mask of stamp {frame.stamp_ns} is {frame.encoding!r} of step {frame.step} and width '
                f'{frame.width}: mono8 of class ids is needed'
            )
            return None
        return np.ndarray((frame.height, frame.width), np.uint8, frame.data, strides=(frame.step, 1)).copy()


def find_masks(folder: Path) -> dict[int, Path]:
    """Return the masks of a folder by the stamp in ns that names them.

    Raises:
        SourceError: there are none, or a PNG has another name.
    """
    files = masks_in(folder)
    strange = [path.name for path in files if not _is_stamp(path.stem)]
    if strange or not files:
        named = f'{counted(len(strange), "PNG")} named otherwise: {", ".join(strange[:3])}'
        content = named if strange else 'no PNGs'
        raise SourceError(f'{folder} has {content}; masks of a bag are named STAMP_NS.png')
    masks: dict[int, Path] = {}
    for path in files:
        if (other := masks.setdefault(int(path.stem), path)) is not path:
            raise SourceError(f'{folder} has two masks of one stamp: {other.name} and {path.name}')
    return masks


def _is_stamp(text: str) -> bool:
    return re.fullmatch('[0-9]{1,20}', text) is not None and int(text) < 1 << 63


def read_mask(path: Path, problem: Problem, classes: LabelSet | None = None) -> Pixels | None:
    """Read a PNG of class ids, uint8 (H, W); tell what is wrong with one that cannot be used.

    Args:
        path: of the file.
        problem: takes a line.
        classes: of the masks, whose colours a palette may show for no other ids; None: not known.
    """
    try:
        label = read_label_png(path)
        fault = classes and foreign_color(path, label, classes)
        if not fault:
            return label
        problem(f'{path}: {fault}')
    except OSError as error:
        problem(f'{path}: {reason(error)}')
    except ValueError as error:
        problem(str(error))
    return None
