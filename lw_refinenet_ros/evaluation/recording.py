# SPDX-License-Identifier: Apache-2.0
"""One recording to evaluate: what a process, here or on another machine, takes and returns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from rosbags.interfaces import Qos

from lw_refinenet_ros.evaluation.checkpoint import Checkpoint
from lw_refinenet_ros.evaluation.evaluate import begin, score_frames, segment_with
from lw_refinenet_ros.evaluation.evaluation import Evaluation
from lw_refinenet_ros.evaluation.examples import BagExamples, FolderExamples
from lw_refinenet_ros.evaluation.mask_map import MaskMap
from lw_refinenet_ros.evaluation.provenance import describe_network_size, describe_segmenter, file_digest
from lw_refinenet_ros.evaluation.rerun_log import RerunLog, viewed
from lw_refinenet_ros.evaluation.result_bag import ResultBag
from lw_refinenet_ros.evaluation.selection import ALL, Selection
from lw_refinenet_ros.evaluation.state_folder import parts_of, state_of
from lw_refinenet_ros.image.ignore_mask import read_ignore_mask
from lw_refinenet_ros.inference.segmenter import OWN_SIZE, Segmenter
from lw_refinenet_ros.resources import DEFAULT_WEIGHTS, find_weights
from lw_refinenet_ros.sources.images import masks_in
from lw_refinenet_ros.sources.source import SourceError

__all__ = ['THREADS_DO_NOT_MATTER', 'Done', 'Failed', 'Progress', 'Recording', 'evaluate_recording']

THREADS_DO_NOT_MATTER = ('openvino',)  # to the labels of these engines, bit by bit; a test says so

Progress = Callable[[int, 'int | None'], None]  # frames that are done, and all, where that is known


@dataclass(frozen=True)
class Recording:
    """What to evaluate and how; every path is absolute."""

    name: str  # of the recording
    frames: Path  # a bag, or a folder of images
    topic: str | None  # of the bag's images, or None
    labels: str | Path  # the bag's topic of masks, or a folder of masks
    tolerance_ns: int | None  # between the stamps of a frame and its mask; None for a folder of images
    engine: Mapping[str, Any]  # what `Segmenter.load` takes
    worst: int  # number of worst frames to keep
    output: Path | None  # the bag to write results to, or None
    node: str  # the name that its topics begin with
    state: Path | None  # a folder of `state_folder` for the checkpoint, or None: no checkpoints
    versions: str  # of what the figures depend on: the state of another version is refused
    masks: MaskMap | None = None  # maps masks with other classes to the classes of the weights
    selection: Selection = ALL  # which frames
    corruptions: bool = False  # whether the frames are also scored in every corruption of `corrupt`
    rerun: Path | None = None  # the file for the viewer Rerun to write, or None; not with a checkpoint
    ignore_mask: Path | None = None  # the file of one, or None

    def open(self) -> BagExamples | FolderExamples:
        """Find the frames and their masks.

        Raises:
            SourceError: there are none.
        """
        if self.tolerance_ns is None:
            return FolderExamples.find(self.frames, Path(self.labels), self.selection.every)
        return BagExamples(self.frames, self.topic, self.labels, self.tolerance_ns, self.selection)


@dataclass(frozen=True)
class Done:
    """The evaluation of a recording, and the weights and engine that produced it."""

    name: str
    evaluation: Evaluation
    made_with: Mapping[str, str]


@dataclass(frozen=True)
class Failed:
    """A recording that could not be read at all, and why, in one line."""

    name: str
    reason: str


@lru_cache(maxsize=1)
def _segmenter(engine: tuple[tuple[str, Any], ...]) -> Segmenter:
    """Load a network once for all recordings that this process evaluates."""
    return Segmenter.load(**dict(engine))


def evaluate_recording(
    recording: Recording,
    progress: Progress,
    segmenter: Segmenter | None = None,
    examples: BagExamples | FolderExamples | None = None,
) -> Done | Failed:
    """Evaluate a recording, from where an interrupted evaluation left off.

    Args:
        recording: what and how.
        progress: called with the number of finished frames, and the total if it is known.
        segmenter: of the recording's engine; None: it is loaded, once in a process.
        examples: the recording's, if they are open.

    Raises:
        ValueError: the engine, the weights or the checkpoint cannot be used.
        OSError: the checkpoint or the results cannot be written.
    """
    ignored = read_ignore_mask(recording.ignore_mask)
    segmenter = segmenter or _segmenter(tuple(recording.engine.items()))
    try:
        examples = examples or recording.open()
    except SourceError as error:
        return Failed(recording.name, str(error))
    evaluation = begin(examples, segmenter.labels, worst=recording.worst)
    checkpoint = _checkpoint(recording, examples.description, segmenter)
    saved = checkpoint.load(evaluation) if checkpoint else {}
    with ExitStack() as stack:
        results = _open_results(stack, recording, examples.offered, segmenter, saved.get('parts', 0))

        def save(*, is_done: bool) -> None:
            if checkpoint:
                if results:
                    results.end_part()
                checkpoint.save(evaluation, parts=results.done if results else 0, is_done=is_done)

        if not saved.get('is_done'):
            log = _open_log(stack, recording, segmenter)
            segment = segment_with(segmenter, corruptions=recording.corruptions, ignored=ignored)
            frames = score_frames(evaluation, examples, segment, recording.masks, ignored)
            for example, prediction in stack.enter_context(closing(frames)):
                if results and prediction:
                    results.write(example, prediction)
                if log and prediction:
                    log.log(viewed(evaluation, example, prediction, recording.masks))
                if checkpoint and checkpoint.due:
                    save(is_done=False)
                progress(evaluation.position, examples.length)
            save(is_done=True)
    weights = str(recording.engine.get('weights', DEFAULT_WEIGHTS))
    return Done(recording.name, evaluation, describe_segmenter(segmenter, weights))


def _checkpoint(recording: Recording, source: str, segmenter: Segmenter) -> Checkpoint | None:
    if recording.state is None:
        return None
    engine = segmenter.engine
    made_by = engine.description
    if engine.name in THREADS_DO_NOT_MATTER:
        made_by = f'{engine.name} on {engine.device}, {engine.precision}'
    return Checkpoint(state_of(recording.state, recording.name), _key(recording, source, made_by))


def _open_results(
    stack: ExitStack, recording: Recording, offered: Sequence[Qos], segmenter: Segmenter, parts: int
) -> ResultBag | None:
    if recording.output is None:
        return None
    folder = parts_of(recording.state, recording.name) if recording.state else None
    bag = ResultBag(recording.output, segmenter.labels, recording.node, offered, folder, parts)
    return stack.enter_context(bag)


def _open_log(stack: ExitStack, recording: Recording, segmenter: Segmenter) -> RerunLog | None:
    if recording.rerun is None:
        return None
    log = RerunLog(segmenter.labels, truth=True)
    stack.enter_context(log.file(recording.rerun))
    return log


def _key(recording: Recording, source: str, engine: str) -> dict[str, str]:
    """Return what a checkpoint depends on: an evaluation resumes only if all of it is unchanged."""
    masks = sorted(masks_in(recording.labels)) if isinstance(recording.labels, Path) else []
    frames = [recording.frames]
    if recording.frames.is_dir():  # its state may be in it, and what a kill left of a file
        frames = sorted(path for path in recording.frames.iterdir() if path.is_file() and path.name[0] != '.')
    weights = find_weights(str(recording.engine.get('weights', DEFAULT_WEIGHTS)))
    files = {'groups': recording.engine.get('class_groups'), 'ignore_mask': recording.ignore_mask}
    return {
        'source': source,
        'frames': _digest(map(_change, frames)),
        'masks': _digest(map(_change, masks)),
        'weights': file_digest(weights)[:12],
        'engine': engine,
        'versions': recording.versions,
        **({'map': f'{recording.masks.description} {recording.masks.targets}'} if recording.masks else {}),
        **({'corruptions': 'scored'} if recording.corruptions else {}),
        **describe_network_size(recording.engine.get('network_size', OWN_SIZE)),
        **{name: file_digest(Path(file))[:12] for name, file in files.items() if file},
        'results': f'{recording.worst} worst frames, {"a bag" if recording.output else "no bag"}',
    }


def _change(file: Path) -> str:
    """Return what changes whenever the file does."""
    return f'{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}'


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256('\n'.join(texts).encode()).hexdigest()[:12]
