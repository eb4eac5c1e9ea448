# SPDX-License-Identifier: Apache-2.0
"""What every reader of a labelling tool's files gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lw_refinenet_ros.training.polygons import Mask

__all__ = ['UNLABELLED_NAMES', 'Outlines']

UNLABELLED_NAMES = ('unlabelled', '__ignore__')  # ours, and that of labelme's own examples


class Outlines(ABC):
    """Images with the outlines that somebody drew in them; what is drawn later covers what was there.

    Attributes:
        description: the file or folder.
        classes: names of the classes, in the order of the file, or sorted where it has none; the
            `UNLABELLED_NAMES` are not among them.

    """

    description: str
    classes: tuple[str, ...]

    @abstractmethod
    def read(self, ids: dict[str, int]) -> Iterator[tuple[str, Mask]]:
        """Give the file name of each image and its mask, uint8 (H, W).

        Args:
            ids: of the classes and of the `UNLABELLED_NAMES`; pixels in no outline are 255.

        Raises:
            ValueError: an outline cannot be painted; the message names its file.

        """
