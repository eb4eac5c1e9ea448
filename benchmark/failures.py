# SPDX-License-Identifier: Apache-2.0
"""The worst frames of the shipped weights on CamVid's val split, drawn without the photographs.

`CAMVID=FOLDER make benchmark ARGS=failures` writes weights/NAME_failures.png for each model card.
"""

import os
import sys
from pathlib import Path

import cv2
import numpy as np

from benchmark.weights import WEIGHTS
from lw_refinenet_ros.image.painting import paint_label
from lw_refinenet_ros.inference.segmenter import Segmenter
from lw_refinenet_ros.resources import find_weights
from lw_refinenet_ros.training.dataset import find_pairs, read_pair

FRAMES = 4
APART = 10  # minimum distance of the frames shown, because neighbours fail alike
INK = (51, 65, 85)


def main() -> None:
    """Draw predictions beside their errors, lowest mean IoU first."""
    if 'CAMVID' not in os.environ:
        sys.exit('failures: skipped, CAMVID=FOLDER with val/images and val/labels is not set')
    pairs = find_pairs(Path(os.environ['CAMVID']) / 'val')
    for weights in WEIGHTS:
        segmenter = Segmenter.load(weights, device='cpu')
        scored = []
        for index, pair in enumerate(zip(pairs.images, pairs.masks)):
            image, truth = read_pair(*pair)
            label = segmenter.segment(image).label
            scored.append((_mean_iou(truth, label, len(pairs.labels.names)), index, label, truth))
        chosen: list = []
        for row in sorted(scored, key=lambda row: row[0]):
            if len(chosen) < FRAMES and all(abs(row[1] - other[1]) >= APART for other in chosen):
                chosen.append(row)
        path = find_weights(weights).with_name(f'{weights}_failures.png')
        picture = np.vstack(
            [_draw(segmenter, pairs.images[i].stem, *row) for row in chosen for i in [row[1]]]
        )
        picture = np.vstack([picture, _legend(segmenter, picture.shape[1])])
        cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])
        print(path)


def _mean_iou(truth: np.ndarray, label: np.ndarray, classes: int) -> float:
    ids = truth[truth < classes].astype(np.int64) * classes + label[truth < classes]
    table = np.bincount(ids, minlength=classes * classes).reshape(classes, classes)
    union = table.sum(0) + table.sum(1) - np.diag(table)
    return float((np.diag(table)[union > 0] / union[union > 0]).mean())


def _draw(
    segmenter: Segmenter, name: str, miou: float, _: int, label: np.ndarray, truth: np.ndarray
) -> np.ndarray:
    """Draw the prediction beside its errors: correct pixels pale, wrong ones in their true class's colour."""
    predicted = paint_label(label, segmenter.labels)
    pale = (255 - (255 - predicted.astype(np.int16)) // 6).astype(np.uint8)
    wrong = (truth != label) & (truth < len(segmenter.labels.names))
    faults = np.where(wrong[..., None], paint_label(truth, segmenter.labels), pale)
    title = np.full((24, 2 * label.shape[1] + 8, 3), 255, np.uint8)
    _write(title, f'{name}: mean IoU {miou:.0%}', 4)
    _write(title, 'wrong pixels, in the colour of their true class', label.shape[1] + 12)
    gap = np.full((label.shape[0], 8, 3), 255, np.uint8)
    return np.vstack([title, np.hstack([predicted, gap, faults])])


def _legend(segmenter: Segmenter, width: int) -> np.ndarray:
    row = np.full((30, width, 3), 255, np.uint8)
    at = 4
    for index, name in enumerate(segmenter.labels.names):
        row[8:22, at : at + 14] = paint_label(np.uint8([[index]]), segmenter.labels)[0, 0]
        _write(row, name, at + 18, 19)
        at += 26 + 8 * len(name)
    return row


def _write(image: np.ndarray, text: str, x: int, y: int = 17) -> None:
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.45, INK, 1, cv2.LINE_AA)
