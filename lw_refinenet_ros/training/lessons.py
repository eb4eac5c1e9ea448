# SPDX-License-Identifier: Apache-2.0
"""Frames that would teach most: the network is in doubt, and they look unlike what is labelled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lw_refinenet_ros.image.encodings import ColorImage
from lw_refinenet_ros.inference.segmenter import Segmenter
from lw_refinenet_ros.sources.images import by_stem, composed, images_in, masks_in, read_image
from lw_refinenet_ros.sources.selection import farthest_first, thumbnail
from lw_refinenet_ros.sources.source import SourceFrame

__all__ = ['Lesson', 'choose_lessons', 'labelled_thumbnails']

UNCERTAIN = 179  # of 255: below a confidence of 70 %
RARE = 1e-3  # of all pixels: a class with fewer weighs no more than one with as many
NAMED = 2  # classes in a reason


@dataclass(frozen=True)
class Lesson:
    """A frame worth labelling, and why."""

    name: str  #: of the frame
    uncertain: float  #: share of its pixels with a confidence below 70 %
    flipped: float  #: share of its pixels that get another class in the mirrored image
    classes: Sequence[str]  #: in which most of the doubt is, the most first
    #: From the most similar frame that is labelled or was chosen before, of 1; see `difference`
    difference: float
    others: int  #: number of these frames

    def __str__(self) -> str:
        unlike = f'; differs by {self.difference:.3f} or more from {self.others} labelled or chosen before'
        return (
            f'frame {self.name}: uncertain on {self.uncertain:.1%} of pixels, '
            f'flip disagrees on {self.flipped:.1%}, mostly {"/".join(self.classes)}'
            f'{unlike if self.others else ""}'
        )


def choose_lessons(
    frames: Iterable[tuple[SourceFrame, ColorImage]],
    segmenter: Segmenter,
    count: int,
    *,
    known: Sequence[NDArray[np.uint8]] = (),
    progress: Callable[[int], None] = lambda _: None,
) -> list[Lesson]:
    """Choose the frames that would teach most, the most valuable first.

    A pixel is in doubt if its confidence is low, or if the mirrored image gives it another class. A frame is
    worth the sum, over the classes, of its share of all the class's pixels that are in doubt, since mIoU
    counts all classes alike; `farthest_first` weighs that against the likeness of frames. Of each frame, only
    a thumbnail and its counts are kept.

    Args:
        frames: frames and their pixels, as from `select`.
        segmenter: the network to be taught.
        count: maximum number of frames.
        known: thumbnails of what is labelled.
        progress: takes the number of frames looked at.
    """
    names: list[str] = []
    thumbnails: list[NDArray[np.uint8]] = []
    shares: list[tuple[float, float]] = []
    seen: list[NDArray[np.float32]] = []  # of each frame, share of its pixels of each class
    doubted: list[NDArray[np.float32]] = []
    for frame, image in frames:
        result = segmenter.segment(image.array, order=image.order, confidence=True)
        mirrored = segmenter.segment(image.array[:, ::-1], order=image.order).label[:, ::-1]
        assert result.confidence is not None, 'it was requested'
        uncertain, flipped = result.confidence < UNCERTAIN, result.label != mirrored
        both = np.stack((result.label, mirrored))
        names.append(frame.name)
        thumbnails.append(thumbnail(image))
        shares.append((float(uncertain.mean()), float(flipped.mean())))
        for counts, pixels in ((seen, both), (doubted, both[:, uncertain | flipped])):
            ids = np.bincount(pixels.ravel(), minlength=256)[: len(segmenter.labels.names)]
            counts.append((ids / both.size).astype(np.float32))
        progress(len(names))
    if not names:
        return []
    total = np.maximum(np.sum(seen, 0, np.float64), RARE * len(names))
    worth = np.stack(doubted) / total
    chosen = farthest_first(np.stack(thumbnails), worth.sum(1), known, count)
    return [
        Lesson(
            names[index],
            *shares[index],
            tuple(segmenter.labels.names[i] for i in np.argsort(-worth[index])[:NAMED] if worth[index, i]),
            apart,
            len(known) + place,
        )
        for place, (index, apart) in enumerate(chosen)
    ]


def labelled_thumbnails(folder: Path) -> list[NDArray[np.uint8]]:
    """Return the thumbnails of the images with masks, or labelme files, in a folder of training data.

    Raises:
        SourceError: an image cannot be read.
        OSError: the folder has no `images/`.
    """
    masks = by_stem(masks_in(folder / 'labels'))
    return [
        thumbnail(ColorImage(read_image(path), 'bgr'))
        for path in images_in(folder / 'images')
        if composed(path.stem) in masks or path.with_suffix('.json').is_file()
    ]
