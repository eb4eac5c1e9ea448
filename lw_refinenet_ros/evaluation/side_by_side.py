# SPDX-License-Identifier: Apache-2.0
"""Evaluate two networks on the same frames, with pictures of those where they differ most."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lw_refinenet_ros.evaluation.evaluate import Prediction, Segment, begin, evaluate, score_frames
from lw_refinenet_ros.evaluation.evaluation import Evaluation
from lw_refinenet_ros.evaluation.examples import Example, Examples
from lw_refinenet_ros.evaluation.frame_scores import thumbnail
from lw_refinenet_ros.evaluation.mask_map import MaskMap
from lw_refinenet_ros.image.encodings import to_rgb
from lw_refinenet_ros.image.frame import Pixels
from lw_refinenet_ros.labels import LabelSet

__all__ = ['ChangedFrame', 'evaluate_both']


@dataclass(frozen=True, eq=False)
class ChangedFrame:
    """A frame that two networks see differently, as a report shows it."""

    name: str  # of the frame
    before_miou: float  # as a fraction of 1
    after_miou: float
    image: Pixels  # uint8 (H, W, 3) RGB
    truth: Pixels  # uint8 (H, W) ids, as the two predictions
    before: Pixels
    after: Pixels


def evaluate_both(
    examples: Examples,
    before: Segment,
    after: Segment,
    labels: LabelSet,
    *,
    pictures: int = 0,
    progress: Callable[[int], None] = lambda _: None,
    masks: MaskMap | None = None,
) -> tuple[Evaluation, Evaluation, list[ChangedFrame]]:
    """Evaluate two networks of the same classes one after the other, as `evaluate` does.

    The frames are read twice, and `progress` counts them so. The `pictures` frames that changed most are kept
    in memory.

    Returns:
        both evaluations, and the frames that changed most, those first.
    """
    first = evaluate(examples, before, labels, progress=progress, masks=masks)
    mious = {(score.stamp_ns, score.name): score.miou for score in first.frames}
    second = begin(examples, labels)
    kept: list[tuple[float, int, float, float, Example, Prediction]] = []
    scored = 0
    for example, result in score_frames(second, examples, after, masks):
        progress(first.position + second.position)
        if len(second.frames) == scored or result is None:
            continue
        scored = len(second.frames)
        was, now = mious.get((example.stamp_ns, example.name), np.nan), second.frames[-1].miou
        if abs(now - was) > 0:  # nor if it has no mIoU
            heapq.heappush(kept, (abs(now - was), -example.index, was, now, example, result))
            if len(kept) > pictures:
                heapq.heappop(kept)  # the least changed
    changed = []
    for _, _, was, now, example, result in sorted(kept, key=lambda entry: entry[:2], reverse=True):
        again = before(example)
        if again is not None and example.truth is not None:
            truth = masks.truth(example.truth) if masks else example.truth
            shown = [thumbnail(ids, is_label=True) for ids in (truth, again.label, result.label)]
            changed.append(ChangedFrame(example.name, was, now, thumbnail(to_rgb(example.image)), *shown))
    return first, second, changed
