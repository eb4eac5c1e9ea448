# SPDX-License-Identifier: Apache-2.0
"""Groups of a network's classes, which take the place of the classes in all results."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.bounded_yaml import read_yaml
from lw_refinenet_ros.labels import UNLABELLED, LabelSet
from lw_refinenet_ros.one_line import reason, unknown

__all__ = ['ClassGroups', 'read_groups']


@dataclass(frozen=True)
class ClassGroups:
    """Classes made of other classes."""

    labels: LabelSet  # names and colours of the groups; the id of a group is its index
    members: tuple[tuple[str, ...], ...]  # names of the classes of each group

    @classmethod
    def from_dict(cls, mapping: dict[str, Any]) -> ClassGroups:
        """Build from a label set's mapping in which every class has the list `of` of its members.

        Raises:
            ValueError: it is not such a mapping, or a class is in two groups.
        """
        labels = LabelSet.from_dict(mapping)
        members = []
        for entry in mapping['classes']:
            names = entry.get('of')
            if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
                raise ValueError(f'group {entry["name"]!r} needs `of`, a list of names of classes')
            members.append(tuple(names))
        times = Counter(name for names in members for name in names)
        if twice := [name for name in times if times[name] > 1]:
            raise ValueError(f'class {twice[0]!r} is listed twice: a class belongs to one group')
        return cls(labels, tuple(members))

    @property
    def description(self) -> str:
        """The groups and their members, in one line."""
        return '; '.join(
            f'{group}: {", ".join(names)}' for group, names in zip(self.labels.names, self.members)
        )

    def ids(self, classes: LabelSet) -> npt.NDArray[np.uint8]:
        """Return the group of each class id, uint8 (256,): 255 for a class of no group.

        Raises:
            ValueError: a member is none of the classes.
        """
        ids = np.full(256, UNLABELLED, np.uint8)
        for group, names in enumerate(self.members):
            for name in names:
                if name not in classes.names:
                    raise ValueError(
                        f'group {self.labels.names[group]!r}: {unknown("class", name, classes.names)}'
                    )
                ids[classes.names.index(name)] = group
        return ids


def read_groups(path: str | os.PathLike[str] | None) -> ClassGroups | None:
    """Read the YAML file of some `class_groups`; None without a path.

    Raises:
        ValueError: it cannot be read, or is not as `ClassGroups.from_dict` takes it.
    """
    if not path:
        return None
    try:
        mapping = read_yaml(str(path))
        return ClassGroups.from_dict(mapping)
    except OSError as error:
        raise ValueError(f'class_groups: {path} cannot be read: {reason(error)}') from error
    except ValueError as error:
        where = '' if str(path) in str(error) else f'{path}: '
        raise ValueError(f'class_groups: {where}{error}') from error
