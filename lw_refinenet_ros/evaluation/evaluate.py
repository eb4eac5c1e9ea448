# SPDX-License-Identifier: Apache-2.0
"""Labels against masks, frame by frame: everything that is counted, and the frames that went worst."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.evaluation.examples import Example, Examples
from lw_refinenet_ros.evaluation.prefetch import prefetched
from lw_refinenet_ros.evaluation.tally import Evaluation, FrameScore, Listed, Worst
from lw_refinenet_ros.image.encodings import to_rgb

if TYPE_CHECKING:
    from lw_refinenet_ros.evaluation.mask_map import MaskMap
    from lw_refinenet_ros.inference.segmenter import Segmenter
    from lw_refinenet_ros.labels import LabelSet

__all__ = ['Labelled', 'Segment', 'begin', 'evaluate', 'is_timed', 'segment_with']

WIDEST = 640  # pixels of a picture kept for the report
TIMED = 10


@dataclass(frozen=True, eq=False)
class Labelled:
    """What was made of a frame.

    Attributes:
        label: uint8 (H, W) ids.
        confidence: the same of the confidence, if it was asked for.
        latency_ms: of the labels alone; NaN of a frame that was not timed, None where none is.
        confident_ms: of labels and confidence, beside the scoring of other frames; None where there is none.

    """

    label: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.uint8] | None
    latency_ms: float | None
    confident_ms: float | None = None


Segment = Callable[[Example], 'Labelled | None']
_Read = tuple[tuple[str, ...], 'Example | None']  # the problems that came before an example; None at the end
_Segmented = tuple[tuple[str, ...], 'Example | None', 'Labelled | None']


def segment_with(segmenter: Segmenter, *, confidence: bool = True) -> Segment:
    """Return the function that segments an example as the node does; compiling and warming up is not timed.

    Of the frames that `is_timed` names the labels alone are timed, as the node makes them where nobody
    subscribes to the confidence.
    """

    def segment(example: Example) -> Labelled:
        image, order = example.image
        size = image.shape[0], image.shape[1]
        latency_ms = float('nan')
        if is_timed(example.index):
            job = segmenter.job(size, order)
            segmenter.prepare(job)
            started = time.perf_counter()
            segmenter.run(job, [image])
            latency_ms = (time.perf_counter() - started) * 1e3
        segmenter.prepare(segmenter.job(size, order, confidence=confidence))
        started = time.perf_counter()
        result = segmenter.segment(image, order=order, confidence=confidence)
        confident_ms = (time.perf_counter() - started) * 1e3 if confidence else None
        return Labelled(result.label, result.confidence, latency_ms, confident_ms)

    return segment


def is_timed(index: int) -> bool:
    """Tell whether the latency of a frame is measured: of the first ten, and of every tenth."""
    return index < TIMED or index % TIMED == 0


def begin(examples: Examples, labels: LabelSet) -> Evaluation:
    """Give the evaluation of examples before the first of them."""
    return Evaluation(
        labels,
        examples.description,
        examples.consecutive,
        Listed.of(examples.frames_alone),
        Listed.of(examples.masks_alone),
    )


def evaluate(
    examples: Examples,
    segment: Segment,
    labels: LabelSet,
    *,
    worst: int = 0,
    each: Callable[[Example, Labelled], None] | None = None,
    progress: Callable[[int], None] | None = None,
    found: Evaluation | None = None,
    save: Callable[[Evaluation], None] | None = None,
    masks: MaskMap | None = None,
) -> Evaluation:
    """Segment every frame and score those that have a mask.

    Reading, segmenting and scoring overlap, in a thread each; but while a frame is timed, nothing is scored.

    Args:
        examples: frames and masks.
        segment: labels an example; None where it got no label.
        labels: the classes of the labels and the masks.
        worst: how many of the worst frames to keep for a report.
        each: is given every example and its labels, such as to write them.
        progress: is told how many frames are done.
        found: what an interrupted evaluation of the same had counted: it goes on from there.
        save: is given the evaluation after every frame.
        masks: how masks of other classes meet those of the labels.

    """
    found = found or begin(examples, labels)
    quiet = Lock()
    with closing(prefetched(_segmented(examples, found.position, segment, quiet))) as stream:
        for problems, example, result in stream:
            found.problems.add(*problems)
            if example is None:
                break
            if result is not None:
                with quiet:
                    _take(found, example, result, worst, masks)
                    if each is not None:
                        each(example, result)
            found.position = example.index + 1
            if save is not None:
                save(found)
            if progress is not None:
                progress(found.position)
    return found


def _segmented(
    examples: Examples, start: int, segment: Segment, quiet: Lock
) -> Generator[_Segmented, None, None]:
    """Segment examples that are read ahead; those that are timed, while nobody else holds `quiet`."""
    with closing(prefetched(_read(examples, start))) as stream:
        for problems, example in stream:
            if example is None:
                yield problems, None, None
                return
            try:
                with quiet if is_timed(example.index) else nullcontext():
                    result = segment(example)
            except ValueError as error:
                yield (*problems, f'{example.name}: {error}'), example, None
            else:
                yield problems, example, result


def _read(examples: Examples, start: int) -> Generator[_Read, None, None]:
    """Give every example with the problems that came before it, so that their order is always the same."""
    problems: list[str] = []
    for example in examples.read(problems.append, start):
        yield tuple(problems), example
        problems.clear()
    yield tuple(problems), None


def _take(found: Evaluation, example: Example, result: Labelled, worst: int, masks: MaskMap | None) -> None:
    """Count one frame."""
    found.first_ns = example.stamp_ns if found.first_ns is None else found.first_ns
    time_s = (example.stamp_ns - found.first_ns) / 1e9
    found.segmented += 1
    found.times_s.append(time_s)
    found.time('decode', example.decode_ms)
    if result.latency_ms is not None:
        found.time('inference', result.latency_ms)
    if result.confident_ms is not None:
        found.time('inference_with_confidence', result.confident_ms)
    started = time.perf_counter()
    if found.consecutive:
        found.stability.update(example.stamp_ns, result.label)
    if example.truth is None:
        return
    truth, label = example.truth, result.label
    if masks is not None:
        try:
            truth, label = masks.truth(truth), masks.prediction(label)
        except ValueError as error:
            found.problems.add(f'mask of {example.name}: {error}')
            return
    score = _score(found, example, replace(result, label=label), truth, time_s)
    if score is None:
        return
    found.time('score', (time.perf_counter() - started) * 1e3)
    if found.wants(score, example.index, worst):
        found.keep_worst(_keep(score, replace(example, truth=truth), result), worst)


def _score(
    found: Evaluation, example: Example, result: Labelled, truth: npt.NDArray[np.uint8], time_s: float
) -> FrameScore | None:
    if truth.shape != result.label.shape:
        ours, theirs = (f'{shape[1]}x{shape[0]}' for shape in (result.label.shape, truth.shape))
        found.problems.add(f'mask of {example.name} is {theirs} and its frame {ours}: give one of its size')
        return None
    try:
        counts = found.confusion.update(result.label, truth)
    except ValueError as error:
        found.problems.add(f'mask of {example.name}: {error}')
        return None
    found.boundary.update(result.label, truth)
    if result.confidence is not None:
        found.calibration.update(result.label, truth, result.confidence)
    parts, wholes = tuple(counts.intersection.tolist()), tuple(counts.union.tolist())
    score = FrameScore(example.name, example.stamp_ns, time_s, parts, wholes)
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
        example.index,
        small(to_rgb(example.image), cv2.INTER_AREA),
        small(example.truth, cv2.INTER_NEAREST),
        small(result.label, cv2.INTER_NEAREST),
        sure,
    )
