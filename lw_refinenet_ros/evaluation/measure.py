# SPDX-License-Identifier: Apache-2.0
"""Base classes of measures: integer counts that add up and can be stored as arrays."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ['Arrays', 'Measure', 'Storable', 'below']

Arrays = Mapping[str, npt.NDArray[Any]]
Same = TypeVar('Same', bound='Measure')


class Storable:
    """Converts to arrays that NumPy stores without pickling, and back: each attribute under its name.

    Arrays stay arrays, attributes that are storable themselves become several ('frames/counts'), and plain
    values are written as JSON, uint8 (N,).
    """

    NOT_STORED: tuple[str, ...] = ()

    def to_arrays(self) -> Arrays:
        """Return all attributes."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        for name, value in self._stored().items():
            if isinstance(value, Storable):
                arrays |= {f'{name}/{key}': each for key, each in value.to_arrays().items()}
            elif isinstance(value, array | np.ndarray):
                arrays[name] = np.array(value)  # a copy: an array that shares its memory cannot grow
            else:
                arrays[name] = np.frombuffer(json.dumps(value).encode(), np.uint8)
        return arrays

    def restore(self, arrays: Arrays) -> None:
        """Restore what `to_arrays` returned; anything else raises an exception of any kind."""
        for name, value in self._stored().items():
            if isinstance(value, Storable):
                value.restore(below(name, arrays))
            elif isinstance(value, array):
                setattr(self, name, array(value.typecode, arrays[name]))
            elif isinstance(value, np.ndarray):
                if arrays[name].shape != value.shape:
                    raise ValueError(f'{name} of shape {arrays[name].shape}, not {value.shape}')
                setattr(self, name, arrays[name].astype(value.dtype))
            else:
                setattr(self, name, json.loads(arrays[name].tobytes()))

    def _stored(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in self.NOT_STORED}


class Measure(Storable):
    """Integer counts over images; counts of parts add up exactly.

    Args:
        shape: of the counts.

    Attributes:
        counts: int64, zeros at first.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.counts: npt.NDArray[np.int64] = np.zeros(shape, np.int64)

    def __iadd__(self: Same, other: Same) -> Same:
        self.counts += other.counts
        return self


def below(name: str, arrays: Arrays) -> Arrays:
    """Return the arrays of one part, under their names there."""
    start = f'{name}/'
    return {key.removeprefix(start): each for key, each in arrays.items() if key.startswith(start)}
