# SPDX-License-Identifier: Apache-2.0
"""Frames with their masks, from a bag or from folders, one in memory at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rosbags.interfaces import Qos

from lw_refinenet_ros.evaluation.masks import MaskStream, Problem, find_masks, read_mask
from lw_refinenet_ros.evaluation.pairing import pair_stamps
from lw_refinenet_ros.evaluation.selection import ALL, Selection
from lw_refinenet_ros.image.encodings import ColorImage, color_image
from lw_refinenet_ros.image.frame import Frame, FrameError, Pixels
from lw_refinenet_ros.labels import LabelSet, find_classes_of_masks
from lw_refinenet_ros.one_line import counted, first_of
from lw_refinenet_ros.sources.bag import BagSource
from lw_refinenet_ros.sources.images import ImageSource, by_stem, composed, images_in, masks_in, read_image
from lw_refinenet_ros.sources.opening import below, open_source
from lw_refinenet_ros.sources.source import SourceError, TopicError

__all__ = ['BagExamples', 'Example', 'Examples', 'FolderExamples']

CONVERTS = 'lw_refinenet label --from-masks converts masks of other names or beside their images'


@dataclass(frozen=True, eq=False)
class Example:
    """A frame, its mask, and how long both took to read and decode."""

    name: str  #: of the image file, or the stamp in ns
    stamp_ns: int  #: of the frame
    frame_id: str  #: of the frame
    image: ColorImage  #: the pixels
    truth: Pixels | None  #: uint8 (H, W) ids; None if the frame has no mask that can be used
    decode_ms: float  #: from the file to pixels
    index: int  #: among the frames of its source, those that could not be used too


class Examples(Protocol):
    """A stream of examples that can be read repeatedly."""

    description: str  #: what they are
    length: int | None  #: frames, as far as is known beforehand
    consecutive: bool  #: whether they are consecutive in time
    frames_alone: Sequence[str] = ()  #: names of frames without a mask
    masks_alone: Sequence[str] = ()  #: names of masks without a frame
    offered: Sequence[Qos] = ()  #: the quality of service of the frames' publishers, as it was recorded

    def read(self, problem: Problem, start: int = 0) -> Iterator[Example]:
        """Read all, or those whose index is at least `start`.

        What cannot be read is skipped and reported to `problem`, one line each.
        """


class FolderExamples(Examples):
    """Image files and the masks that belong to them; None for one without."""

    def __init__(self, pairs: Sequence[tuple[Path, Path | None]], classes: LabelSet | None = None) -> None:
        self._pairs, self._classes = pairs, classes
        self.description = f'{pairs[0][0].parent}, masks {pairs[0][1].parent if pairs[0][1] else "missing"}'
        self.length = len(pairs)
        self.consecutive = False
        self.frames_alone = [image.name for image, mask in pairs if mask is None]

    @classmethod
    def find(cls, images: Path, labels: Path, every: int = 1) -> FolderExamples:
        """Pair the images of one folder, or every N-th of them, with the masks NAME.png of another.

        Raises:
            SourceError: there are no images, none of them has a mask, or two have the same.
        """
        files = images_in(images)
        if not files:
            raise SourceError(f'{images} has no images{below(images)}')
        stems, masks_of = by_stem(files), by_stem(masks_in(labels))
        for what, folder, groups in (('mask', images, stems), ('image', labels, masks_of)):
            alike = [groups[stem] for stem in stems if stem in masks_of and len(groups[stem]) > 1]
            if alike:
                names = [' and '.join(path.name for path in same) for same in alike]
                masks_among = any(path in masks_of[composed(path.stem)] for path in alike[0])
                raise SourceError(
                    f'{folder}: {first_of(names)} have one {what}: '
                    f'{CONVERTS if what == "mask" and masks_among else "move all but one away"}'
                )
        masks = {stem: found[0] for stem, found in masks_of.items()}
        pairs = [(path, masks.get(composed(path.stem))) for path in files[::every]]
        examples = cls(pairs, _classes_of(labels))
        if len(examples.frames_alone) == len(pairs):
            count = counted(len(pairs), 'image')
            raise SourceError(f'{labels} has no mask NAME.png of the {count} of {images}: {CONVERTS}')
        examples.description = f'images {images}, masks {labels}{_appended(Selection(every))}'
        examples.masks_alone = tuple(path.name for stem, path in sorted(masks.items()) if stem not in stems)
        return examples

    def read(self, problem: Problem, start: int = 0) -> Iterator[Example]:
        """See `Examples`."""
        stamps = ImageSource('images', [image for image, _ in self._pairs]).files
        for index, ((path, mask), (stamp_ns, _)) in enumerate(zip(self._pairs, stamps)):
            if index < start:
                continue
            started = time.perf_counter()
            if mask is None:
                problem(f'{path} has no mask')
            try:
                image = read_image(path)
            except SourceError as error:
                problem(str(error))
                continue
            truth = read_mask(mask, problem, self._classes) if mask else None
            decode_ms = (time.perf_counter() - started) * 1e3
            yield Example(path.name, stamp_ns, 'camera', ColorImage(image, 'bgr'), truth, decode_ms, index)


class BagExamples(Examples):
    """The frames of one image topic of a bag, and masks from a folder or from another topic, by stamp.

    Args:
        bag: what `open_source` takes but a camera; without topics, it needs a folder of masks.
        topic: of the images; None: the only one that is neither the masks nor a segmenter's result.
        labels: the topic of mono8 masks, or a folder of masks named by stamp_ns.
        tolerance_ns: how far apart the stamps of a frame and its mask may be.
        selection: which frames; others are neither segmented nor missed.

    Raises:
        SourceError: there is no such bag or topic, no frame is chosen, or none of these has a mask.
    """

    def __init__(
        self,
        bag: Path,
        topic: str | None,
        labels: str | Path,
        tolerance_ns: int,
        selection: Selection = ALL,
    ) -> None:
        self._bag, self._labels = bag, labels
        if isinstance(labels, str):
            try:
                with open_source(bag, topic=labels, on_error=_ignore) as masks:
                    assert isinstance(masks, BagSource), 'only bags have topics'
                    theirs = list(masks.stamps())
            except TopicError as error:
                raise SourceError(f'{error}; --labels also takes a folder of masks STAMP_NS.png') from error
            where = f'{bag} topic {labels}'
        else:
            self._files, self._classes = find_masks(labels), _classes_of(labels)
            theirs, where = list(self._files), str(labels)
        leave_out = (labels,) if isinstance(labels, str) else ()
        faults: list[SourceError] = []  # reported again when the frames are read, if there are any
        with open_source(bag, topic=topic, leave_out=leave_out, on_error=faults.append) as source:
            self.topic = source.topic
            # To open the source again: one that is no bag refuses any
            self.source_topic = source.topic if isinstance(source, BagSource) else None
            self.length = source.length
            self.offered = source.offered
            stamps = list(source.stamps()) if isinstance(source, BagSource) else [f.stamp_ns for f in source]
        if faults and not stamps:
            raise faults[0]
        if self.topic == labels:
            raise SourceError(f'{bag}: images and masks are both of topic {labels}')
        indices = selection.choose(stamps)
        if stamps and not indices:
            raise SourceError(
                f'{bag} topic {self.topic} has no frame{_appended(selection)}: '
                f'it has {counted(len(stamps), "frame")}'
            )
        self._chosen = {stamps[index] for index in indices}
        pairing = pair_stamps(stamps, theirs, tolerance_ns)
        self._end: int | None = None  # the index may count fewer frames than there are
        if len(indices) < len(stamps):
            self._end = self.length = indices[-1] + 1
            pairing = pairing.among(self._chosen)
        self._partners = pairing.partners
        if not self._partners:
            raise SourceError(_no_pair(stamps, theirs, f'{bag} topic {self.topic}', where, tolerance_ns))
        self.description = f'{bag} topic {self.topic}, masks {where}, tolerance {tolerance_ns / 1e6:g} ms'
        self.description += _appended(selection)
        self.consecutive = True
        self.frames_alone = [str(stamp) for stamp in pairing.frames_alone]
        self.masks_alone = [str(stamp) for stamp in pairing.masks_alone]

    def read(self, problem: Problem, start: int = 0) -> Iterator[Example]:
        """See `Examples`. The bag is opened here: SQLite serves the thread that opened it.

        What comes before `start` is skipped without reporting its problems again.
        """
        position = 0  # of the frame at hand, or, between two, of the next

        def tell(fault: SourceError | str) -> None:
            if position >= start:
                problem(str(fault))

        with ExitStack() as stack:
            frames = stack.enter_context(open_source(self._bag, topic=self.source_topic, on_error=tell))
            masks: MaskStream | None = None
            if isinstance(self._labels, str):
                source = stack.enter_context(open_source(self._bag, topic=self._labels, on_error=tell))
                masks = MaskStream(source, set(self._partners.values()), tell)
            seen: set[int] = set()
            started = time.perf_counter()
            for frame in frames:
                if self._end is not None and position >= self._end:
                    break
                example = None
                if frame.stamp_ns in seen:
                    tell(f'{self._bag} topic {self.topic}: the stamp {frame.stamp_ns} ns repeats')
                elif frame.stamp_ns in self._chosen:
                    seen.add(frame.stamp_ns)
                    partner = self._partners.get(frame.stamp_ns)
                    truth = masks.take(partner) if masks and partner is not None else None
                    if position >= start:
                        example = self._example(frame, truth, partner, position, started, problem)
                if example is not None:
                    yield example
                started = time.perf_counter()
                position += 1

    def _example(
        self,
        frame: Frame,
        truth: Pixels | None,
        partner: int | None,
        index: int,
        started: float,
        problem: Problem,
    ) -> Example | None:
        """Decode a frame, and its mask if that is a file."""
        name = str(frame.stamp_ns)
        try:
            image = color_image(frame)
        except FrameError as error:
            problem(f'{self._bag} topic {self.topic}: frame of stamp {name}: {error}')
            return None
        if partner is not None and not isinstance(self._labels, str):
            truth = read_mask(self._files[partner], problem, self._classes)
        decode_ms = (time.perf_counter() - started) * 1e3
        return Example(name, frame.stamp_ns, frame.frame_id, image, truth, decode_ms, index)


def _classes_of(masks: Path) -> LabelSet | None:
    """Return the classes that a `classes.yaml` in a folder of masks, or above it, lists."""
    path = find_classes_of_masks(masks)
    return LabelSet.from_yaml(path) if path else None


def _appended(selection: Selection) -> str:
    """Return the selection as a suffix of a description."""
    return f', {selection}' if str(selection) else ''


def _ignore(_: SourceError) -> None:
    """Ignore an error that is reported again when the frames are read."""


def _no_pair(ours: list[int], theirs: list[int], frames: str, masks: str, tolerance_ns: int) -> str:
    """Return why nothing was paired, with the distance of the nearest stamps."""
    if not ours or not theirs:
        return (
            f'{frames} has {counted(len(ours), "frame")} and {masks} has {counted(len(theirs), "mask")}: '
            'nothing can be scored'
        )
    pairs = pair_stamps(ours, theirs, 2**62).partners
    gap_s = min(abs(ours_ns - theirs_ns) for ours_ns, theirs_ns in pairs.items()) / 1e9
    return (
        f'no frame of {frames} has a mask of {masks} within {tolerance_ns / 1e9:g} s: '
        f'the nearest are {gap_s:.6g} s apart; use a larger --tolerance or other labels'
    )
