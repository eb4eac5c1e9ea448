# SPDX-License-Identifier: Apache-2.0
"""Masks as other tools write them, in colours or with ids of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lw_refinenet_ros.bounded_yaml import read_yaml
from lw_refinenet_ros.image.label_png import content_of, foreign_color, read_label_png
from lw_refinenet_ros.labels import UNLABELLED, LabelSet
from lw_refinenet_ros.one_line import unknown
from lw_refinenet_ros.sources.images import read_image

__all__ = ['MaskRules', 'read_other_mask']

OTHERS = 'others'  # in a file of rules: every id and colour that it does not list

Color = tuple[int, ...]


@dataclass(frozen=True)
class MaskRules:
    """Which class id the ids and colours of masks stand for."""

    ids: Mapping[int, int]  #: of each id that masks may hold; 255 is unlabelled
    colors: Mapping[Color, int]  #: of each colour, (red, green, blue)
    others: int | None = None  #: of all other colours; None: there may be none
    #: Whether colours count in a palette PNG, not ids; None: if its order is not that of the classes
    by_colors: bool | None = None

    @classmethod
    def of(cls, labels: LabelSet) -> MaskRules:
        """Return the rules for masks with the ids or the colours of these classes."""
        ids = {index: index for index in (*range(len(labels.names)), UNLABELLED)}
        return cls(ids, {color: index for index, color in enumerate(labels.colors)})

    @classmethod
    def from_yaml(cls, path: Path, labels: LabelSet) -> MaskRules:
        """Read a YAML mapping of ids, of colours as 'red, green, blue', or of `others`, to classes by name.

        Without ids in it, ids are those of the classes, and there are no others. Colours that it leaves out
        are those of the classes.

        Args:
            path: of the YAML file; 255 and 'unlabelled' as values leave pixels unlabelled.
            labels: the classes.

        Raises:
            ValueError: the file is not such a mapping, or names an unknown class.
            OSError: it cannot be read.
        """
        entries = read_yaml(path)
        if not (isinstance(entries, dict) and entries):
            raise ValueError(
                f"{path} must be a mapping of ids, colours ('128, 64, 0') or {OTHERS} to classes"
            )
        own, others = cls.of(labels), None
        ids, colors = dict[int, int](), dict[Color, int]()
        for key, value in entries.items():
            target = _class_id(path, key, value, labels)
            if key == OTHERS:
                others = target
            elif type(key) is int and 0 <= key <= UNLABELLED:
                ids[key] = target
            else:
                colors[_color(path, key)] = target
        by_colors = not ids if ids or colors else None
        if ids:  # and then the others, too: others alone would leave ids that count from 1 one too high
            rest = {} if others is None else dict.fromkeys(range(UNLABELLED), others)
            ids = {**rest, UNLABELLED: UNLABELLED, **ids}
        return cls(ids or own.ids, {**own.colors, **colors}, others, by_colors)


def _class_id(path: Path, key: object, value: Any, labels: LabelSet) -> int:
    if (index := labels.id_of(value)) is not None:
        return index
    raise ValueError(f'{path}: {key!r}: {unknown("class", value, (*labels.names, str(UNLABELLED)))}')


def _color(path: Path, key: object) -> Color:
    parts = [part.strip() for part in str(key).split(',')]
    if len(parts) == 3 and all(part.isascii() and part.isdecimal() and int(part) <= 255 for part in parts):
        return tuple(map(int, parts))
    raise ValueError(f"{path}: {key!r} is not an id from 0 to 255, a colour as '128, 64, 0' or {OTHERS}")


def read_other_mask(path: Path, labels: LabelSet, rules: MaskRules) -> NDArray[np.uint8]:
    """Read a PNG of colours or ids as ids of the classes, uint8 (H, W).

    Raises:
        ValueError: it cannot be decoded, or has colours or ids that the rules do not know.
        OSError: it cannot be read.
    """
    content = content_of(path)
    by_colors = content == 'colors' or (content == 'palette' and rules.by_colors)
    if not by_colors:
        mask = read_label_png(path, foreign=True)
        if rules.by_colors is not None or not foreign_color(path, mask, labels):
            return _of_ids(path, mask, rules)
    if len(set(labels.colors)) < len(labels.colors):
        raise ValueError(f'{path} has colours, but two classes have the same: change one in classes.yaml')
    return _of_colors(path, read_image(path)[..., ::-1], rules)


def _of_ids(path: Path, mask: NDArray[np.uint8], rules: MaskRules) -> NDArray[np.uint8]:
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist()
    if strays := [index for index in present if index not in rules.ids]:
        raise ValueError(
            f'{path} holds ids {present}, of which {strays} are no class: write a class or 255 for each in '
            f'--map FILE ({OTHERS}: 255 for all the rest)'
        )
    ids = np.array([rules.ids.get(index, UNLABELLED) for index in range(256)], np.uint8)
    return ids[mask]


def _of_colors(path: Path, rgb: NDArray[np.uint8], rules: MaskRules) -> NDArray[np.uint8]:
    packed = rgb.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    label = np.full(packed.shape, UNLABELLED if rules.others is None else rules.others, np.uint8)
    known = np.zeros(packed.shape, bool)
    for (red, green, blue), index in rules.colors.items():
        at = packed == (red << 16 | green << 8 | blue)
        label[at] = index
        known |= at
    if rules.others is None and not known.all():
        strays, counts = np.unique(packed[~known], return_counts=True)
        stray, most = int(strays[counts.argmax()]), counts.max()
        color = f'{stray >> 16}, {stray >> 8 & 255}, {stray & 255}'
        more = f' and {len(strays) - 1} more colours' if len(strays) > 1 else ''
        raise ValueError(
            f'{path} has {most} pixels of {color}{more}, of no class: add it to classes.yaml, or map it with '
            f"--map FILE ('{color}': CLASS or 255; {OTHERS}: 255 for all the rest)"
        )
    return label
