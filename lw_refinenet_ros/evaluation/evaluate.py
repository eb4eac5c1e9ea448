# SPDX-License-Identifier: Apache-2.0
"""Labels against masks, frame by frame: everything that is counted, and the frames that went worst."""

from __future__ import annotations

import heapq
import time
from array import array
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.evaluation.boundary import BoundaryScore
from lw_refinenet_ros.evaluation.calibration import Calibration
from lw_refinenet_ros.evaluation.examples import Example, Examples
from lw_refinenet_ros.evaluation.metrics import Confusion
from lw_refinenet_ros.evaluation.prefetch import prefetched
from lw_refinenet_ros.evaluation.stability import Stability
from lw_refinenet_ros.image.encodings import to_rgb

if TYPE_CHECKING:
    from lw_refinenet_ros.image.labels import LabelSet
    from lw_refinenet_ros.inference.segmenter import Segmenter

__all__ = ['Evaluation', 'FrameScore', 'Labelled', 'Problems', 'Worst', 'evaluate', 'segment_with']

MOST_NAMED = 100  # problems that are kept word by word; the rest is counted
WIDEST = 640  # pixels of a picture kept for the report


@dataclass(frozen=True, eq=False)
class Labelled:
    """What was made of a frame: ids and confidence, uint8 (H, W), and the time it took, if it is known."""

    label: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.uint8] | None
    latency_ms: float | None


Segment = Callable[[Example], 'Labelled | None']


@dataclass(frozen=True)
class FrameScore:
    """One scored frame: its pixels in both, and in either, of truth and prediction, by class."""

    name: str
    stamp_ns: int
    intersection: tuple[int, ...]
    union: tuple[int, ...]

    @property
    def scored(self) -> bool:
        """Whether any pixel has a class in the mask."""
        return any(self.union)

    @property
    def miou(self) -> float:
        """Mean of the IoUs of the classes that occur; NaN where none does."""
        ratios = [part / whole for part, whole in zip(self.intersection, self.union) if whole]
        return sum(ratios) / len(ratios) if ratios else float('nan')


@dataclass(frozen=True, eq=False)
class Worst:
    """A frame that went badly, not wider than a report shows it: RGB, truth, prediction, confidence."""

    score: FrameScore
    image: npt.NDArray[np.uint8]
    truth: npt.NDArray[np.uint8]
    label: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.uint8] | None


@dataclass
class Problems:
    """What could not be used: how many, and the first hundred in words."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Count one, in one line."""
        self.count += 1
        if len(self.first) < MOST_NAMED:
            self.first.append(text)


@dataclass
class Evaluation:
    """All that was counted; memory grows by a row of counts per scored frame and some times per frame.

    Attributes:
        labels: the classes.
        examples: what was read.
        confusion, boundary, calibration, stability: see there.
        frames: the scored ones in their order.
        segmented: frames that got labels, with or without a mask.
        stages_ms: times of each frame by stage; 'decode' is measured in its own thread.
        times_s: when each segmented frame was, by its stamp, from the first.
        worst: the worst frames, worst first.
        problems: what could not be used.

    """

    labels: LabelSet
    examples: Examples
    confusion: Confusion
    boundary: BoundaryScore
    calibration: Calibration = field(default_factory=Calibration)
    stability: Stability = field(default_factory=Stability)
    frames: list[FrameScore] = field(default_factory=list)
    segmented: int = 0
    stages_ms: dict[str, array[float]] = field(default_factory=dict)
    times_s: array[float] = field(default_factory=lambda: array('d'))
    worst: list[Worst] = field(default_factory=list)
    problems: Problems = field(default_factory=Problems)

    def _time(self, stage: str, milliseconds: float) -> None:
        self.stages_ms.setdefault(stage, array('d')).append(milliseconds)


def segment_with(segmenter: Segmenter, *, confidence: bool = True) -> Segment:
    """Give the function that segments an example as the node does; compiling and warming up is not timed."""

    def segment(example: Example) -> Labelled:
        image, order = example.image
        segmenter.prepare((image.shape[0], image.shape[1]), order=order, confidence=confidence)
        started = time.perf_counter()
        result = segmenter.segment(image, order=order, confidence=confidence)
        return Labelled(result.label, result.confidence, (time.perf_counter() - started) * 1e3)

    return segment


def evaluate(
    examples: Examples,
    segment: Segment,
    labels: LabelSet,
    *,
    worst: int = 0,
    each: Callable[[Example, Labelled], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Segment every frame and score those that have a mask.

    Args:
        examples: frames and masks, read ahead in a thread.
        segment: labels an example; None where it got no label.
        labels: the classes of the labels and the masks.
        worst: how many of the worst frames to keep for a report.
        each: is given every example and its labels, such as to write them.
        progress: is told how many frames are done.

    """
    count = len(labels.names)
    found = Evaluation(labels, examples, Confusion(count), BoundaryScore(count))
    heap: list[tuple[float, int, Worst]] = []
    first_ns: int | None = None
    with closing(prefetched(_with_problems(examples))) as stream:
        for done, (problems, example) in enumerate(stream, 1):
            for problem in problems:
                found.problems.add(problem)
            if example is None:
                break
            try:
                result = segment(example)
            except ValueError as error:
                found.problems.add(f'{example.name}: {error}')
                continue
            if result is not None:
                first_ns = example.stamp_ns if first_ns is None else first_ns
                found.segmented += 1
                found.times_s.append((example.stamp_ns - first_ns) / 1e9)
                found._time('decode', example.decode_ms)
                if result.latency_ms is not None:
                    found._time('inference', result.latency_ms)
                if examples.consecutive:
                    found.stability.update(example.stamp_ns, result.label)
                started = time.perf_counter()
                score = _score(found, example, result)
                if score is not None:
                    found._time('score', (time.perf_counter() - started) * 1e3)
                    entry = (-score.miou, -done)
                    if worst and score.scored and (len(heap) < worst or entry > heap[0][:2]):
                        kept = (*entry, _keep(score, example, result))
                        (heapq.heappush if len(heap) < worst else heapq.heapreplace)(heap, kept)
                if each is not None:
                    each(example, result)
            if progress is not None:
                progress(done)
    found.worst = [kept for *_, kept in sorted(heap, key=lambda entry: entry[:2], reverse=True)]
    return found


def _with_problems(examples: Examples) -> Generator[tuple[tuple[str, ...], Example | None], None, None]:
    """Give every example with the problems that came before it, so that their order is always the same."""
    problems: list[str] = []
    for example in examples.read(problems.append):
        yield tuple(problems), example
        problems.clear()
    yield tuple(problems), None


def _score(found: Evaluation, example: Example, result: Labelled) -> FrameScore | None:
    truth = example.truth
    if truth is None:
        return None
    try:
        counts = found.confusion.update(result.label, truth)
    except ValueError as error:
        found.problems.add(f'mask of {example.name}: {error}')
        return None
    found.boundary.update(result.label, truth)
    if result.confidence is not None:
        found.calibration.update(result.label, truth, result.confidence)
    score = FrameScore(
        example.name, example.stamp_ns, tuple(counts.intersection.tolist()), tuple(counts.union.tolist())
    )
    found.frames.append(score)
    return score


def _keep(score: FrameScore, example: Example, result: Labelled) -> Worst:
    """Copy what a report shows, made smaller if need be."""
    assert example.truth is not None
    height, width = result.label.shape
    scale = min(1.0, WIDEST / width)
    size = (round(width * scale), max(1, round(height * scale)))

    def small(array: npt.NDArray[np.uint8], how: int) -> npt.NDArray[np.uint8]:
        return np.array(cv2.resize(array, size, interpolation=how), np.uint8)

    sure = None if result.confidence is None else small(result.confidence, cv2.INTER_AREA)
    return Worst(
        score,
        small(to_rgb(example.image), cv2.INTER_AREA),
        small(example.truth, cv2.INTER_NEAREST),
        small(result.label, cv2.INTER_NEAREST),
        sure,
    )
