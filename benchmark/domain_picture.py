# SPDX-License-Identifier: Apache-2.0
"""A domain that the shipped weights have not seen, a rendered street by night, before and after fine-tuning.

`python -m benchmark.domain_picture FOLDER` writes FOLDER/train and FOLDER/val with true masks;
`python -m benchmark.domain_picture FOLDER WEIGHTS FILE` draws `camvid` and WEIGHTS on FOLDER/val.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from benchmark.cloud_picture import legend
from benchmark.rendered_street import CLASSES, render, street
from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.cli.options import label_set
from lw_refinenet_ros.evaluation.evaluate import begin, score_frames, segment_with
from lw_refinenet_ros.evaluation.examples import FolderExamples
from lw_refinenet_ros.image.encodings import ColorImage
from lw_refinenet_ros.image.painting import paint_label
from lw_refinenet_ros.training.dataset import find_pairs, read_pair
from lw_refinenet_ros.training.label_folder import LabelFolder

FRAMES = {'train': range(8), 'val': range(100, 104)}  # the random seeds of their streets
SHOWN = 2
SIZE, GAP = (316, 237), 4  # of an image in the picture, (width, height), and below and beside it


def write_frames(folder: Path) -> None:
    """Render a street for every frame, seen from somewhere on it."""
    for split, seeds in FRAMES.items():
        frames = LabelFolder(folder / split, label_set(None))
        for seed in seeds:
            random = np.random.default_rng(seed)
            at = (random.uniform(-1.5, 1), random.uniform(-4, 4))
            image, _, label = render(street(random), random, at, night=True)
            color = ColorImage(image, 'rgb')
            frames.write_image(str(seed), color)
            frames.write_mask(str(seed), color, label)


def draw(folder: Path, weights: str, path: Path) -> None:
    """Write image, labels of both weights and truth of the first frames side by side, with both mean IoUs."""
    pairs = find_pairs(folder / 'val')
    shown = [read_pair(*pair) for pair in zip(pairs.images[:SHOWN], pairs.masks)]
    columns = [('image', [image for image, _ in shown])]
    for name, choice in (('before', 'camvid'), ('after', weights)):
        segmenter = Segmenter.load(choice, precision='fp32')
        examples = FolderExamples.find(folder / 'val/images', folder / 'val/labels')
        evaluation = begin(examples, segmenter.labels)
        labels = [result.label for _, result in score_frames(evaluation, examples, segment_with(segmenter))]
        title = f'{name}: mIoU {evaluation.confusion.miou:.1%}'
        columns.append((title, [paint_label(label, segmenter.labels) for label in labels[:SHOWN]]))
    columns.append(('truth', [paint_label(truth, pairs.labels) for _, truth in shown]))
    strips = []
    for title, images in columns:
        head = np.full((30, SIZE[0] + GAP, 3), 255, np.uint8)
        cv2.putText(head, title, (4, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (40,) * 3, 1, cv2.LINE_AA)
        small = np.full((len(images), SIZE[1] + GAP, SIZE[0] + GAP, 3), 255, np.uint8)
        for place, image in zip(small, images):
            place[: SIZE[1], : SIZE[0]] = cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA)
        strips.append(np.vstack([head, *small]))
    picture = np.vstack([np.hstack(strips), legend(pairs.labels, np.arange(len(CLASSES)))])
    cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == '__main__':
    folder, *rest = sys.argv[1:]
    if rest:
        draw(Path(folder), rest[0], Path(rest[1]))
    else:
        write_frames(Path(folder))
