# SPDX-License-Identifier: Apache-2.0
"""Write frames with predicted masks, and print what to do with them."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from lw_refinenet_ros.cli.options import Progress, load_segmenter, segmentable
from lw_refinenet_ros.cli.terminal import print_more
from lw_refinenet_ros.image.encodings import ColorImage
from lw_refinenet_ros.image.label_png import read_label_png
from lw_refinenet_ros.inference.segmenter import Segmenter
from lw_refinenet_ros.labels import UNLABELLED, LabelSet, find_classes
from lw_refinenet_ros.one_line import counted, first_of
from lw_refinenet_ros.resources import DEFAULT_WEIGHTS
from lw_refinenet_ros.sources.images import ImageSource, images_in
from lw_refinenet_ros.sources.opening import open_source
from lw_refinenet_ros.sources.selection import select
from lw_refinenet_ros.sources.source import SourceError, SourceFrame
from lw_refinenet_ros.training.coco import write_coco
from lw_refinenet_ros.training.drafting import Drafts, draft_masks
from lw_refinenet_ros.training.label_folder import LabelFolder
from lw_refinenet_ros.training.labelme import write_labelme
from lw_refinenet_ros.training.lessons import choose_lessons, labelled_thumbnails
from lw_refinenet_ros.training.polygons import Mask

__all__ = ['COCO_FILE', 'draft']

COCO_FILE = 'annotations.json'

Frames = Iterator[tuple[SourceFrame, ColorImage]]


def draft(options: argparse.Namespace, every: int) -> None:
    """Write the selected frames with predicted masks; print what was written and the next steps.

    Without --every, each image of a folder is selected, and every `every`-th frame of anything else.
    """
    problems: dict[str, None] = {}  # in order; --next meets them twice

    def report(problem: SourceError) -> None:
        problems[str(problem)] = None

    classes = options.classes or find_classes(options.output)
    given = LabelSet.from_yaml(classes) if classes else None
    with open_source(options.source, topic=options.topic, on_error=report) as frames_of:
        segmenter = load_segmenter(options)
        labels = given or segmenter.labels
        if unknown := [name for name in labels.names if name not in segmenter.labels.names]:
            print(f'unknown to the weights, so in no predicted mask: {", ".join(unknown)}', file=sys.stderr)
            if options.class_groups and len(unknown) == len(labels.names):
                raise ValueError(
                    f'none of the groups is among the classes of {classes}: use another --output'
                )
        folder = LabelFolder(options.output, labels)

        def write_shapes(image: Path, mask: Mask) -> None:
            if options.format == 'labelme':
                write_labelme(image.with_suffix('.json'), image.name, mask, labels, options.simplify)

        def frames(names: Collection[str] | None = None) -> Frames:
            selected = select(
                frames_of,
                every=options.every or (1 if isinstance(frames_of, ImageSource) else every),
                different=options.different,
                start_s=options.start,
                end_s=options.end,
                names=names,
                on_error=report,
            )
            return segmentable(selected, segmenter, report)

        names = _choose(options, frames, segmenter, folder) if options.next else None
        drafts = draft_masks(
            frames(names),
            segmenter,
            folder,
            files=frames_of.paths if isinstance(frames_of, ImageSource) else {},
            min_confidence=options.min_confidence,
            png=options.png,
            limit=options.limit,
            write_shapes=write_shapes,
            progress=Progress('labelled').show,
        )
    if not drafts.names and not drafts.kept:
        labelled = ', or all are labelled' if options.next else ''
        why = next(iter(problems), f'there is none between --start and --end{labelled}')
        raise ValueError(f'no frame was taken: {why}')
    if options.format == 'coco':
        _write_coco(folder, options.simplify)
    for line in (*_summary(folder, drafts), *_next_steps(options, folder)):
        print(line)
    print_more(problems)
    if problems:
        raise ValueError(f'{first_of(problems)}; the readable frames were taken')


def _choose(
    options: argparse.Namespace,
    frames: Callable[[], Frames],
    segmenter: Segmenter,
    folder: LabelFolder,
) -> Collection[str]:
    """Return the names of the frames that would teach most, and print why."""
    known = labelled_thumbnails(folder.path)
    if options.labelled and os.path.realpath(options.labelled) != os.path.realpath(folder.path):
        elsewhere = labelled_thumbnails(options.labelled)
        if not elsewhere:
            raise ValueError(f'--labelled {options.labelled} has no image with a mask in labels/')
        known += elsewhere
    lessons = choose_lessons(
        (each for each in frames() if not folder.is_labelled(each[0].name)),
        segmenter,
        options.next,
        known=known,
        progress=Progress('looked at').show,
    )
    for lesson in lessons:
        print(lesson)
    return {lesson.name for lesson in lessons}


def _write_coco(folder: LabelFolder, tolerance: float) -> None:
    """Write one file for all masks of the folder, including earlier ones."""
    images = [path for path in images_in(folder.path / 'images') if folder.mask(path.stem).is_file()]
    masks = ((path.name, read_label_png(folder.mask(path.stem))) for path in images)
    write_coco(folder.path / COCO_FILE, masks, folder.labels, tolerance)


def _summary(folder: LabelFolder, drafts: Drafts) -> Sequence[str]:
    """Return lines on what was written, with the share of each class."""
    counts = drafts.counts
    names = {**dict(enumerate(folder.labels.names)), UNLABELLED: 'unlabelled'}
    shares = {name: counts[i] / counts.sum() for i, name in names.items() if counts[i]}
    shown = ', '.join(f'{n} {s:.1%}' for n, s in sorted(shares.items(), key=lambda item: -item[1]))
    lines = [f'{folder.path}: {counted(len(drafts.names), "frame")}' + (f': {shown}' if shown else '')]
    if drafts.kept:
        lines.append(f'not overwritten: {counted(drafts.kept, "existing mask")} or labelme files')
    return lines


def _next_steps(options: argparse.Namespace, folder: LabelFolder) -> Sequence[str]:
    """Return the next steps as commands to paste."""
    out, images = str(folder.path), f'{folder.path}/images'
    correct = [f'correct: {out}/labels/*.png; palette indices are class ids, 255 is unlabelled']
    if options.format == 'labelme':
        names = ','.join((*folder.labels.names, 'unlabelled'))
        correct = [
            f'correct: {shlex.join(["labelme", images, "--nodata", "--labels", names])}',
            f'then:    {_command("label", "--from-labelme", images, "--output", out)}',
        ]
    elif options.format == 'coco':
        correct = [
            f'correct: {out}/{COCO_FILE}, with {images}, in a tool that imports and exports COCO',
            f'then:    {_command("label", "--from-coco", "EXPORTED.json", "--output", out)}',
        ]
    init = options.weights or DEFAULT_WEIGHTS
    train = _command('train', '--init', init, '--data', out, '--output', 'RUN')
    return (f'look at: {out}/overlays', *correct, f'then:    {train}')


def _command(*arguments: str) -> str:
    return shlex.join(['lw_refinenet', *arguments])
