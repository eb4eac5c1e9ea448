# SPDX-License-Identifier: Apache-2.0
"""Two networks on the same frames, and pictures of those where they differ most."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.evaluation.evaluate import Labelled, Segment, begin, evaluate
from lw_refinenet_ros.image.encodings import to_rgb

if TYPE_CHECKING:
    from lw_refinenet_ros.evaluation.examples import Example, Examples
    from lw_refinenet_ros.evaluation.mask_map import MaskMap
    from lw_refinenet_ros.evaluation.tally import Evaluation
    from lw_refinenet_ros.labels import LabelSet

__all__ = ['ChangedFrame', 'evaluate_both']

WIDEST = 640  # pixels of a picture

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ChangedFrame:
    """A frame that two networks see differently, not wider than a report shows it.

    Attributes:
        name: of the frame.
        before_miou, after_miou: as a fraction of 1.
        image: uint8 (H, W, 3) RGB.
        truth, before, after: uint8 (H, W) ids.

    """

    name: str
    before_miou: float
    after_miou: float
    image: Picture
    truth: Picture
    before: Picture
    after: Picture


def evaluate_both(
    examples: Examples,
    before: Segment,
    after: Segment,
    labels: LabelSet,
    *,
    pictures: int = 0,
    progress: Callable[[int], None] | None = None,
    masks: MaskMap | None = None,
) -> tuple[Evaluation, Evaluation, list[ChangedFrame]]:
    """Evaluate one after the other, as `evaluate` does; the frames are read twice.

    Args:
        examples: frames and masks.
        before: labels an example.
        after: the same of the other network.
        labels: the classes of both.
        pictures: how many frames to keep of those whose mIoU changes most; so many are in memory.
        progress: is told how many of twice the frames are done.
        masks: how masks of other classes meet those of the labels.

    Returns:
        both evaluations, and the frames that changed most, those first.

    """
    count = 0

    def tell(done: int) -> None:
        if progress is not None:
            progress(count + done)

    first = evaluate(examples, before, labels, progress=tell, masks=masks)
    count = first.position
    mious = {(score.stamp_ns, score.name): score.miou for score in first.frames}
    second = begin(examples, labels)
    kept: list[tuple[float, int, float, float, Example, Labelled]] = []

    def look(example: Example, result: Labelled) -> None:
        """Keep the frame that was scored last, if it changed more than those that are kept."""
        if not (
            second.frames and second.frames[-1].stamp_ns == example.stamp_ns and example.truth is not None
        ):
            return
        was, now = mious.get((example.stamp_ns, example.name), np.nan), second.frames[-1].miou
        entry = (abs(now - was), -example.index, was, now, example, result)
        if not entry[0] > 0:  # nor if it has no mIoU
            return
        if len(kept) < pictures:
            heapq.heappush(kept, entry)
        elif kept:
            heapq.heappushpop(kept, entry)

    evaluate(examples, after, labels, each=look, progress=tell, found=second, masks=masks)
    changed = []
    for _, _, was, now, example, result in sorted(kept, key=lambda entry: entry[:2], reverse=True):
        again = before(example)
        if again is not None:
            truth = masks.truth(example.truth) if masks and example.truth is not None else example.truth
            changed.append(_pictures(replace(example, truth=truth), was, now, again, result))
    return first, second, changed


def _pictures(example: Example, was: float, now: float, before: Labelled, after: Labelled) -> ChangedFrame:
    """Copy what a report shows, made smaller if need be."""
    assert example.truth is not None, 'only frames with a mask are kept'
    height, width = after.label.shape
    scale = min(1.0, WIDEST / width)
    size = (round(width * scale), max(1, round(height * scale)))

    def small(array: Picture, how: int = cv2.INTER_NEAREST) -> Picture:
        return np.array(cv2.resize(array, size, interpolation=how), np.uint8)

    image = small(to_rgb(example.image), cv2.INTER_AREA)
    return ChangedFrame(
        example.name, was, now, image, small(example.truth), small(before.label), small(after.label)
    )
