# SPDX-License-Identifier: Apache-2.0
"""Classes: their names, colours and ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.bounded_yaml import read_yaml
from lw_refinenet_ros.one_line import one_line

__all__ = [
    'OPACITY',
    'UNLABELLED',
    'UNLABELLED_NAME',
    'UNLABELLED_NAMES',
    'LabelSet',
    'find_classes',
    'find_classes_of_masks',
]

UNLABELLED = 255  # the id of a pixel without a class
UNLABELLED_NAME = 'unlabelled'  # what the node publishes for it
# What files may call it: in our English, in American English, and in labelme's examples
UNLABELLED_NAMES = (UNLABELLED_NAME, 'unlabeled', '__ignore__')
OPACITY = 0.5  # of the colours over an image, by default
LONGEST_NAME = 100  # characters


@dataclass(frozen=True)
class LabelSet:
    """The classes of a network: the id of a class is its index.

    Args:
        name: of the set.
        names: 1 to 255 different class names.
        colors: of each class, (red, green, blue), 0 to 255.

    Raises:
        ValueError: one of these is not so.
    """

    name: str
    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]

    def __post_init__(self) -> None:
        names: tuple[Any, ...] = (self.name, *self.names)  # as files say them
        for name in names:
            if not isinstance(name, str):
                kind = type(name).__name__
                raise ValueError(f'the name of a label set or class is of type {kind}: write text')
            if not (0 < len(name) <= LONGEST_NAME and name.isprintable()):
                raise ValueError(
                    f'the name {one_line(repr(name))} of a label set or class must be '
                    f'1 to {LONGEST_NAME} printable characters'
                )
        if not 1 <= (count := len(self.names)) <= UNLABELLED:
            raise ValueError(f'label set {self.name!r} has {count} classes: it needs 1 to {UNLABELLED}')
        if len(self.colors) != count:
            raise ValueError(f'label set {self.name!r} has {count} names but {len(self.colors)} colours')
        if repeated := sorted({name for name in self.names if self.names.count(name) > 1}):
            raise ValueError(f'label set {self.name!r} names {", ".join(map(repr, repeated))} more than once')
        for name, color in zip(self.names, self.colors):
            if len(color) != 3 or not all(type(value) is int and 0 <= value <= 255 for value in color):
                raise ValueError(f'the colour of class {name!r} must be three integers from 0 to 255')

    @classmethod
    def from_yaml(cls, path: Path | str) -> LabelSet:
        """Read a YAML file in the format of `from_dict`.

        Raises:
            ValueError: it is not YAML that `read_yaml` takes, or not such a mapping; the message names it.
            OSError: it cannot be read.
        """
        mapping = read_yaml(path)
        try:
            return cls.from_dict(mapping)
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from error

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> LabelSet:
        """Build from `{name, ignore: 255, classes: [{name, color: [r, g, b]}, ...]}`.

        Raises:
            ValueError: something is missing or of another type.
        """
        classes = mapping.get('classes') if isinstance(mapping, Mapping) else None
        if not (isinstance(classes, list) and 1 <= len(classes) <= UNLABELLED):
            raise ValueError(
                f'expected name, ignore and classes, a list of 1 to {UNLABELLED} of {{name, color}}'
            )
        ignore = mapping.get('ignore', UNLABELLED)
        if ignore != UNLABELLED:
            raise ValueError(f'the ignored id must be {UNLABELLED}')
        for index, entry in enumerate(classes):
            if not (isinstance(entry, Mapping) and isinstance(entry.get('color'), list | tuple)):
                raise ValueError(f'class {index} must be {{name, color: [red, green, blue]}}')
        return cls(
            mapping.get('name', ''),
            tuple(entry.get('name', '') for entry in classes),
            tuple(tuple(entry['color']) for entry in classes),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes, of plain lists, strings and integers."""
        classes = [{'name': name, 'color': list(color)} for name, color in zip(self.names, self.colors)]
        return {'name': self.name, 'ignore': UNLABELLED, 'classes': classes}

    def id_of(self, value: object) -> int | None:
        """Return the id of a class by name, 255 of 255 and the `UNLABELLED_NAMES`, None of anything else."""
        if value in self.names:
            return self.names.index(value)
        return UNLABELLED if value in (UNLABELLED, *UNLABELLED_NAMES) else None

    @cached_property
    def palette(self) -> npt.NDArray[np.uint8]:
        """The colour of every id, uint8 (256, 3) RGB; ids without a class are black."""
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(self.colors)] = self.colors
        palette.setflags(write=False)
        return palette


def find_classes(folder: Path) -> Path | None:
    """Return the `classes.yaml` in a folder of data, or in the one above it; None without one."""
    candidates = (folder / 'classes.yaml', folder.parent / 'classes.yaml')
    return next((path for path in candidates if path.is_file()), None)


def find_classes_of_masks(folder: Path) -> Path | None:
    """Return the `classes.yaml` in a folder of masks, or where `find_classes` looks for their data's."""
    path = folder / 'classes.yaml'
    return path if path.is_file() else find_classes(folder.parent)
