# SPDX-License-Identifier: Apache-2.0
"""Mapping of the classes of masks to the classes of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lw_refinenet_ros.bounded_yaml import read_yaml
from lw_refinenet_ros.class_groups import ClassGroups
from lw_refinenet_ros.evaluation.confusion import id_list
from lw_refinenet_ros.image.frame import Pixels
from lw_refinenet_ros.labels import UNLABELLED, LabelSet, find_classes_of_masks

__all__ = ['MaskMap', 'map_for_masks']

NO_CLASS = -1  # of an id that the masks may not hold
MOST_LISTED = 12  # classes of a label set that are named in an error


@dataclass(frozen=True)
class MaskMap:
    """The class of the weights that each id of a mask stands for.

    Several ids may stand for one class. A class of the weights that no id stands for cannot be scored: where
    it is predicted, the prediction is 255, which misses the true class and is no class's false positive.
    """

    #: Of each mask id from 0 to 255, the id of the weights' class, 255 for unlabelled, or -1 where masks may
    #: not hold the id
    targets: tuple[int, ...]
    file: str  #: where that is written
    rules: str  #: what it says, in one line

    @property
    def description(self) -> str:
        """File and rules in one line."""
        return f'{self.file}: {self.rules}'

    @classmethod
    def from_yaml(cls, path: Path, labels: LabelSet, theirs: LabelSet | None) -> MaskMap:
        """Read a YAML mapping of mask classes, by name or id, to classes of the weights, by name.

        Mask classes that it leaves out keep their name, if the weights have a class of that name.

        Args:
            path: of the YAML file; 255 and 'unlabelled' as values leave pixels without truth.
            labels: the classes of the weights.
            theirs: the classes of the masks; None: not known, and the file names ids only.

        Raises:
            ValueError: the file is not such a mapping, names an unknown class, or leaves out a class of the
                masks that the weights do not have.
            OSError: it cannot be read.
        """
        entries = read_yaml(path)
        if not (isinstance(entries, dict) and entries):
            raise ValueError(f'{path} must be a mapping of mask classes (name or id) to those of the weights')
        targets = [NO_CLASS] * 256
        targets[UNLABELLED] = UNLABELLED
        names = theirs.names if theirs else ()
        for index, name in enumerate(names):
            if name in labels.names:
                targets[index] = labels.names.index(name)
        for key, value in entries.items():
            targets[_mask_id(path, key, theirs)] = _weights_id(path, key, value, labels)
        left_out = [name for name, target in zip(names, targets) if target < 0]
        if left_out:
            raise ValueError(
                f'{path} does not map {_listed(left_out)}: '
                'write a class of the weights, or 255 for unlabelled'
            )
        rules = ', '.join(f'{key} → {value}' for key, value in entries.items())
        return cls(tuple(targets), str(path), rules)

    def grouped(self, groups: ClassGroups | None, labels: LabelSet) -> MaskMap:
        """Return the mapping to groups of the classes that this one maps to."""
        if groups is None:
            return self
        ids = groups.ids(labels)
        targets = tuple(target if target < 0 else int(ids[target]) for target in self.targets)
        return replace(self, targets=targets, rules=f'{self.rules} in {groups.description}')

    def truth(self, mask: Pixels) -> Pixels:
        """Return the ids of the weights' classes, uint8 (H, W).

        Raises:
            ValueError: the mask holds ids that stand for nothing; names them.
        """
        targets = np.array(self.targets)
        present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
        strays = present[targets[present] < 0]
        if strays.size:
            raise ValueError(f'the truth holds {id_list(strays.tolist())}, which {self.file} does not map')
        return targets.astype(np.uint8)[mask]

    def prediction(self, label: Pixels) -> Pixels:
        """Return a predicted label with 255 where its class is none that the masks can hold, uint8 (H, W)."""
        ids = np.full(256, UNLABELLED, np.uint8)
        reached = sorted({target for target in self.targets if target >= 0})
        ids[reached] = reached
        return ids[label]


def map_for_masks(
    labels: LabelSet,
    folders: tuple[Path, ...],
    file: Path | None = None,
    groups: ClassGroups | None = None,
) -> MaskMap | None:
    """Return the mapping of masks to the classes of the results; None if both have the same classes.

    Args:
        labels: the classes of the weights.
        folders: where `classes.yaml` is looked for, by `find_classes_of_masks`.
        file: of the mapping.
        groups: of the classes of the weights, which the results have in place of them.

    Raises:
        ValueError: the masks are of other classes and there is no mapping, or it does not fit.
        OSError: a file cannot be read.
    """
    path = next(filter(None, map(find_classes_of_masks, folders)), None)
    theirs = LabelSet.from_yaml(path) if path else None
    if file is not None:
        return MaskMap.from_yaml(file, labels, theirs).grouped(groups, labels)
    if groups is not None and theirs is not None and theirs.names == groups.labels.names:
        return None
    if theirs is not None and theirs.names != labels.names:
        raise ValueError(
            f'the masks of {folders[0]} are of other classes than the weights: {path} lists '
            f'{_listed(theirs.names)}; the weights have {_listed(labels.names)}: '
            'map them with --map FILE, or use weights of these classes'
        )
    if groups is None:
        return None
    same = [index if index < len(labels.names) else NO_CLASS for index in range(UNLABELLED)]
    return MaskMap((*same, UNLABELLED), 'class_groups', 'the classes of the weights').grouped(groups, labels)


def _mask_id(path: Path, key: Any, theirs: LabelSet | None) -> int:
    if type(key) is int and 0 <= key <= UNLABELLED:
        return key
    if theirs is None:
        raise ValueError(f'{path}: {key!r} is not an id from 0 to 255, and no classes.yaml gives it one')
    if key not in theirs.names:
        raise ValueError(f'{path}: the masks have no class {key!r}: they have {_listed(theirs.names)}')
    return theirs.names.index(key)


def _weights_id(path: Path, key: Any, value: Any, labels: LabelSet) -> int:
    if (index := labels.id_of(value)) is not None:
        return index
    raise ValueError(
        f'{path}: {key!r} is mapped to {value!r}, which is not a class of the weights: '
        f'they have {_listed(labels.names)}; 255 is unlabelled'
    )


def _listed(names: Sequence[str]) -> str:
    more = f' and {len(names) - MOST_LISTED} more' if len(names) > MOST_LISTED else ''
    return ', '.join(names[:MOST_LISTED]) + more
