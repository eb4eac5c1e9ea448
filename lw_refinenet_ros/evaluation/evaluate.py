# SPDX-License-Identifier: Apache-2.0
"""Evaluate labels against masks, frame by frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from threading import Lock

from lw_refinenet_ros.evaluation.evaluation import Evaluation
from lw_refinenet_ros.evaluation.examples import Example, Examples
from lw_refinenet_ros.evaluation.frame_scores import FrameScore, WorstFrame, thumbnail
from lw_refinenet_ros.evaluation.mask_map import MaskMap
from lw_refinenet_ros.evaluation.prefetch import prefetched
from lw_refinenet_ros.evaluation.robustness import corrupt
from lw_refinenet_ros.image.encodings import to_rgb
from lw_refinenet_ros.image.frame import Pixels
from lw_refinenet_ros.image.ignore_mask import unlabel
from lw_refinenet_ros.inference.segmenter import Segmenter
from lw_refinenet_ros.labels import LabelSet

__all__ = ['Prediction', 'Segment', 'begin', 'evaluate', 'is_timed', 'score_frames', 'segment_with']

TIMED = 10


@dataclass(frozen=True, eq=False)
class Prediction:
    """The labels of a frame."""

    label: Pixels  #: uint8 (H, W) ids
    confidence: Pixels | None  #: uint8 (H, W), if it was requested
    #: Inference time without confidence; NaN if this frame was not timed, None if no frame is
    latency_ms: float | None
    #: Inference time with confidence, while other frames are scored; None if not measured
    confident_ms: float | None = None
    #: Labels of the same frame in every corruption of `corrupt`, if they were requested
    corrupted: Sequence[Pixels] = ()


Segment = Callable[[Example], 'Prediction | None']
_Read = tuple[tuple[str, ...], 'Example | None']  # problems reported before an example; None at the end
_Segmented = tuple[tuple[str, ...], 'Example | None', 'Prediction | None']


def segment_with(
    segmenter: Segmenter, *, confidence: bool = True, corruptions: bool = False, ignored: Pixels | None = None
) -> Segment:
    """Return a function that segments an example as the node does; warm-up is not timed.

    Frames selected by `is_timed` are also segmented without confidence, as the node does without subscribers
    to it, to measure the latency.

    Args:
        segmenter: what the node runs.
        confidence: whether to compute the confidence.
        corruptions: whether frames with a mask are also segmented in every corruption of `corrupt`.
        ignored: of `read_ignore_mask`; these pixels are unlabelled.
    """

    def segment(example: Example) -> Prediction:
        image, order = example.image
        size = image.shape[0], image.shape[1]
        scored = example.truth is not None and example.truth.shape == size
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
        unlabel(result.label, ignored)
        corrupted = [
            segmenter.segment(worse).label
            for worse in (corrupt(to_rgb(example.image), example.index) if corruptions and scored else ())
        ]
        return Prediction(result.label, result.confidence, latency_ms, confident_ms, corrupted)

    return segment


def is_timed(index: int) -> bool:
    """Return whether the latency of a frame is measured: of the first ten, and of every tenth."""
    return index < TIMED or index % TIMED == 0


def begin(examples: Examples, labels: LabelSet, *, worst: int = 0) -> Evaluation:
    """Return an empty evaluation of examples that keeps the given number of worst frames."""
    evaluation = Evaluation(labels, examples.description, examples.consecutive, worst)
    evaluation.frames_alone.add(*examples.frames_alone)
    evaluation.masks_alone.add(*examples.masks_alone)
    return evaluation


def evaluate(
    examples: Examples,
    segment: Segment,
    labels: LabelSet,
    *,
    worst: int = 0,
    masks: MaskMap | None = None,
    ignored: Pixels | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Segment every frame and score those that have a mask.

    Args:
        examples: frames and masks.
        segment: returns the prediction for an example, or None.
        labels: the classes of the labels and the masks.
        worst: number of worst frames to keep for a report.
        masks: maps masks with other classes to the classes of the labels.
        ignored: uint8 (H, W), 255 for pixels that are not scored.
        progress: called with the number of finished frames.
    """
    evaluation = begin(examples, labels, worst=worst)
    for _ in score_frames(evaluation, examples, segment, masks, ignored):
        if progress is not None:
            progress(evaluation.position)
    return evaluation


def score_frames(
    evaluation: Evaluation,
    examples: Examples,
    segment: Segment,
    masks: MaskMap | None = None,
    ignored: Pixels | None = None,
) -> Generator[tuple[Example, Prediction | None], None, None]:
    """Resume an evaluation at its `position`; yield each frame with its prediction once it is counted.

    Reading, segmenting and scoring overlap, one thread each. While a frame is timed, nothing is scored, and
    no frame is yielded. The arguments are those of `evaluate`.
    """
    quiet = Lock()
    with closing(prefetched(_segmented(examples, evaluation.position, segment, quiet))) as stream:
        for problems, example, result in stream:
            evaluation.problems.add(*problems)
            if example is None:
                break
            with quiet:
                if result is not None:
                    _count(evaluation, example, result, masks, ignored)
                evaluation.position = example.index + 1
                yield example, result


def _segmented(
    examples: Examples, start: int, segment: Segment, quiet: Lock
) -> Generator[_Segmented, None, None]:
    """Segment examples that are read ahead; timed ones hold `quiet` meanwhile."""
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
    """Yield every example with the problems reported before it, so that their order is reproducible."""
    problems: list[str] = []
    for example in examples.read(problems.append, start):
        yield tuple(problems), example
        problems.clear()
    yield tuple(problems), None


def _count(
    evaluation: Evaluation,
    example: Example,
    result: Prediction,
    masks: MaskMap | None,
    ignored: Pixels | None,
) -> None:
    """Count one frame, and score it if it has a mask that can be used."""
    if evaluation.first_ns is None:
        evaluation.first_ns = example.stamp_ns
    evaluation.segmented += 1
    evaluation.times_s.append((example.stamp_ns - evaluation.first_ns) / 1e9)
    evaluation.time('decode', example.decode_ms)
    if result.latency_ms is not None:
        evaluation.time('inference', result.latency_ms)
    if result.confident_ms is not None:
        evaluation.time('inference_with_confidence', result.confident_ms)
    started = time.perf_counter()
    if evaluation.consecutive:
        evaluation.stability.update(example.stamp_ns, result.label)
    if example.truth is None:
        return
    truth, label, mask = example.truth, result.label, f'mask of {example.name}'
    if truth.shape != label.shape:
        ours, theirs = (f'{shape[1]}x{shape[0]}' for shape in (label.shape, truth.shape))
        evaluation.problems.add(f'{mask} is {theirs} and its frame {ours}: give one of its size')
        return
    try:
        if masks is not None:
            truth, label = masks.truth(truth), masks.prediction(label)
            result = replace(result, corrupted=[masks.prediction(each) for each in result.corrupted])
        if ignored is not None:
            truth = truth.copy()
            unlabel(truth, ignored)
        score = _score(evaluation, example, replace(result, label=label), truth)
    except ValueError as error:
        evaluation.problems.add(f'{mask}: {error}')
        return
    evaluation.time('score', (time.perf_counter() - started) * 1e3)
    if not evaluation.most_worst:
        return
    image, confidence = to_rgb(example.image), result.confidence
    evaluation.facts.update(image, label, truth, confidence, consecutive=evaluation.consecutive)
    if evaluation.worst.want(score, example.index):
        frame = WorstFrame(
            score,
            example.index,
            thumbnail(image),
            thumbnail(truth, is_label=True),
            thumbnail(result.label, is_label=True),
            None if confidence is None else thumbnail(confidence),
        )
        evaluation.worst.keep(frame)


def _score(evaluation: Evaluation, example: Example, result: Prediction, truth: Pixels) -> FrameScore:
    """Score a frame; an unknown id raises a ValueError, and nothing of the frame is counted."""
    counts = evaluation.confusion.update(result.label, truth)
    evaluation.boundary.update(result.label, truth)
    evaluation.robustness.update(result.corrupted, truth)
    if result.confidence is not None:
        evaluation.calibration.update(result.label, truth, result.confidence)
    score = FrameScore(
        example.name,
        example.stamp_ns,
        evaluation.times_s[-1],
        tuple(counts.intersection.tolist()),
        tuple(counts.union.tolist()),
    )
    evaluation.frames.append(score)
    return score
