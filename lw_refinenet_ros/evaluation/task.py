# SPDX-License-Identifier: Apache-2.0
"""One recording to evaluate: what a process, here or on another machine, is given and gives back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lw_refinenet_ros.evaluation.evaluate import Labelled, begin, evaluate, segment_with
from lw_refinenet_ros.evaluation.examples import BagExamples, Example, FolderExamples
from lw_refinenet_ros.evaluation.provenance import describe_segmenter, file_digest
from lw_refinenet_ros.evaluation.result_bag import ResultBag
from lw_refinenet_ros.evaluation.selection import ALL, Selection
from lw_refinenet_ros.evaluation.state import Checkpoint, load_state
from lw_refinenet_ros.evaluation.state_folder import parts_of, state_of
from lw_refinenet_ros.inference.segmenter import Segmenter
from lw_refinenet_ros.resources import DEFAULT_WEIGHTS, find_weights
from lw_refinenet_ros.sources.source import SourceError

if TYPE_CHECKING:
    from rosbags.interfaces import Qos

    from lw_refinenet_ros.evaluation.mask_map import MaskMap
    from lw_refinenet_ros.evaluation.tally import Evaluation

__all__ = ['THREADS_DO_NOT_MATTER', 'Done', 'Failed', 'Progress', 'Task', 'run_task']

THREADS_DO_NOT_MATTER = ('openvino',)  # to the labels of these engines, bit by bit; a test says so

Progress = Callable[[int, 'int | None'], None]  # frames that are done, and all, where that is known


@dataclass(frozen=True)
class Task:
    """What to evaluate and how; every path is absolute.

    Attributes:
        name: of the recording.
        frames: a bag, or a folder of images.
        topic: of the bag's images, or None.
        labels: the bag's topic of masks, or a folder of masks.
        tolerance_ns: between the stamps of a frame and its mask; None for a folder of images.
        engine: what `Segmenter.load` takes.
        worst: how many of the worst frames to keep.
        output: the bag to write results to, or None.
        node: the name that its topics begin with.
        state: a folder of `state_folder` to keep the state in, or None: nothing is kept.
        versions: of what the figures depend on: the state of another version is refused.
        masks: how masks of other classes meet those of the weights.
        selection: which frames.

    """

    name: str
    frames: Path
    topic: str | None
    labels: str | Path
    tolerance_ns: int | None
    engine: Mapping[str, Any]
    worst: int
    output: Path | None
    node: str
    state: Path | None
    versions: str
    masks: MaskMap | None = None
    selection: Selection = ALL

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
    """What was found, and what it was made with."""

    name: str
    found: Evaluation
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


def run_task(
    task: Task,
    progress: Progress,
    segmenter: Segmenter | None = None,
    examples: BagExamples | FolderExamples | None = None,
) -> Done | Failed:
    """Evaluate a recording, from where an interrupted evaluation left off.

    Args:
        task: the recording.
        progress: is told how far it is.
        segmenter: of the task's engine; None: it is loaded, once in a process.
        examples: the task's, if they are open.

    Raises:
        ValueError: the engine, the weights or the kept state cannot be used.
        OSError: the state or the results cannot be written.

    """
    segmenter = segmenter or _segmenter(tuple(task.engine.items()))
    try:
        examples = examples or task.open()
    except SourceError as error:
        return Failed(task.name, str(error))
    found, parts, checkpoint, is_done = None, 0, None, False
    if task.state:
        path = state_of(task.state, task.name)
        engine = segmenter.engine
        made_by = engine.description
        if engine.name in THREADS_DO_NOT_MATTER:
            made_by = f'{engine.name} on {engine.device}, {engine.precision}'
        key = _key(task, examples.description, made_by)
        checkpoint = Checkpoint(path, key)
        if kept := load_state(path, segmenter.labels, key):
            found, parts, is_done = kept[0], kept[1]['parts'], kept[1]['is_done']
    found = found or begin(examples, segmenter.labels)
    with ExitStack() as stack:
        results = _open_results(stack, task, examples.offered, segmenter, parts)

        def each(example: Example, result: Labelled) -> None:
            if results:
                results.write(example, result)

        def save(found: Evaluation, *, is_done: bool = False) -> None:
            if checkpoint and (is_done or checkpoint.due):
                if results:
                    results.end_part()
                checkpoint.save(found, parts=results.done if results else 0, is_done=is_done)

        if not is_done:
            evaluate(
                examples,
                segment_with(segmenter),
                segmenter.labels,
                worst=task.worst,
                each=each,
                progress=lambda done: progress(done, examples.length),
                found=found,
                save=save,
                masks=task.masks,
            )
            save(found, is_done=True)
    weights = str(task.engine.get('weights', DEFAULT_WEIGHTS))
    return Done(task.name, found, describe_segmenter(segmenter, weights))


def _open_results(
    stack: ExitStack, task: Task, offered: Sequence[Qos], segmenter: Segmenter, parts: int
) -> ResultBag | None:
    if task.output is None:
        return None
    folder = parts_of(task.state, task.name) if task.state else None
    return stack.enter_context(ResultBag(task.output, segmenter.labels, task.node, offered, folder, parts))


def _key(task: Task, source: str, engine: str) -> dict[str, str]:
    """Say what an evaluation is made of: with the same of all this it goes on, and with nothing else."""
    masks = sorted(task.labels.glob('*.png')) if isinstance(task.labels, Path) else []
    frames = sorted(task.frames.iterdir()) if task.frames.is_dir() else [task.frames]
    weights = find_weights(str(task.engine.get('weights', DEFAULT_WEIGHTS)))
    return {
        'source': source,
        'frames': _digest(map(_change, frames)),
        'masks': _digest(map(_change, masks)),
        'weights': file_digest(weights)[:12],
        'engine': engine,
        'versions': task.versions,
        **({'map': task.masks.description} if task.masks else {}),
        'results': f'{task.worst} worst frames, {"a bag" if task.output else "no bag"}',
    }


def _change(file: Path) -> str:
    """Tell a file from itself before it was changed."""
    return f'{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}'


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256('\n'.join(texts).encode()).hexdigest()[:12]
