# SPDX-License-Identifier: Apache-2.0
"""List what may be wrong in the masks of labelled data, the most suspicious first."""

from __future__ import annotations

import argparse

import numpy as np

from lw_refinenet_ros.cli.options import Progress, load_segmenter, warn_of_predictions
from lw_refinenet_ros.cli.table import print_table
from lw_refinenet_ros.cli.terminal import print_more
from lw_refinenet_ros.evaluation.examples import FolderExamples
from lw_refinenet_ros.evaluation.suspects import Suspect, find_suspects
from lw_refinenet_ros.files import write_json
from lw_refinenet_ros.labels import UNLABELLED, LabelSet, find_classes
from lw_refinenet_ros.one_line import counted, first_of
from lw_refinenet_ros.resources import DEFAULT_WEIGHTS
from lw_refinenet_ros.training.dataset import check_has_images
from lw_refinenet_ros.training.drafting import translate_ids

__all__ = ['review']

LISTED = 50  # on the terminal


def review(options: argparse.Namespace) -> None:
    """Segment every image, list the regions where the network is sure of another class, and save the list."""
    folder = options.review
    check_has_images(folder)
    examples = FolderExamples.find(folder / 'images', folder / 'labels', options.every or 1)
    warn_of_predictions([folder / 'labels'])
    classes = options.classes or find_classes(folder)
    given = LabelSet.from_yaml(classes) if classes else None
    segmenter = load_segmenter(options)
    labels = given or segmenter.labels
    ids = translate_ids(segmenter.labels, labels)
    problems: list[str] = []
    found: list[tuple[str, Suspect]] = []
    reviewed, progress = 0, Progress('reviewed', examples.length)
    for example in examples.read(problems.append):
        truth, image = example.truth, example.image
        if truth is None:
            continue
        if truth.shape != image.array.shape[:2]:
            problems.append(f'the mask of {example.name} has another size than the image')
        elif unknown := np.setdiff1d(truth, [*range(len(labels.names)), UNLABELLED]).tolist():
            problems.append(f'the mask of {example.name} holds class ids {unknown}, which have no name')
        else:
            try:
                result = segmenter.segment(image.array, order=image.order, confidence=True)
            except ValueError as error:  # too long for this network size
                problems.append(f'{example.name}: {error}')
                continue
            assert result.confidence is not None, 'it was requested'
            found += [
                (example.name, each) for each in find_suspects(ids[result.label], truth, result.confidence)
            ]
            reviewed += 1
        progress.show(example.index + 1)
    found.sort(key=lambda each: -each[1].pixels * each[1].confidence)
    table = [['file', 'labelled', 'predicted', 'confidence', 'pixels', 'centre (x, y)']]
    for name, each in found[:LISTED]:
        classes = labels.names[each.labelled], labels.names[each.predicted]
        centre = f'{each.centre[0]}, {each.centre[1]}'
        table.append([name, *classes, f'{each.confidence:.1%}', f'{each.pixels}', centre])
    if found:
        print_table(table, '<<<>><')
    if len(found) > LISTED:
        print(f'and {len(found) - LISTED} smaller ones, which --json FILE lists')
    regions = counted(len(found), 'region')
    print(f'{counted(reviewed, "mask")} reviewed: {regions} where the network is sure of another class')
    if options.json:
        rows = [{'file': name, **_row(suspect, labels)} for name, suspect in found]
        about = {'reviewed': reviewed, 'weights': options.weights or DEFAULT_WEIGHTS}
        write_json(options.json, {**about, 'suspects': rows})
    print_more(problems)
    if problems:
        raise ValueError(f'{first_of(problems)}; the rest was reviewed')


def _row(suspect: Suspect, labels: LabelSet) -> dict[str, object]:
    return {
        'labelled': labels.names[suspect.labelled],
        'predicted': labels.names[suspect.predicted],
        'confidence': round(suspect.confidence, 4),
        'pixels': suspect.pixels,
        'centre': list(suspect.centre),
    }
