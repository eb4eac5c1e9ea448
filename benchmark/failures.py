# SPDX-License-Identifier: Apache-2.0
"""The worst frames of CamVid sequences that training has not seen, drawn without the photographs.

`CAMVID=FOLDER FOLDS=FOLDER make benchmark ARGS=failures` writes weights/camvid_failures.png. CAMVID has train
and val; FOLDS/SEQUENCE/last.safetensors was trained without that sequence, as weights/README.md describes.
"""

import os
import sys
from pathlib import Path

import cv2
import numpy as np

from lw_refinenet_ros.evaluation.confusion import Confusion
from lw_refinenet_ros.image.painting import paint_label
from lw_refinenet_ros.inference.segmenter import Segmenter
from lw_refinenet_ros.resources import find_weights
from lw_refinenet_ros.training.dataset import find_pairs, read_pair

FRAMES = 2  # of each sequence
APART = 10  # minimum distance of the frames shown, because neighbours fail alike
INK = (51, 65, 85)


def main() -> None:
    """Draw predictions beside their errors, lowest mean IoU of each sequence first."""
    if not {'CAMVID', 'FOLDS'} <= set(os.environ):
        sys.exit('failures: skipped, CAMVID=FOLDER and FOLDS=FOLDER (SEQUENCE/last.safetensors) are not set')
    camvid = Path(os.environ['CAMVID'])
    pairs = find_pairs(camvid / 'train') + find_pairs(camvid / 'val')
    drawn = []
    for fold in sorted(Path(os.environ['FOLDS']).glob('*/last.safetensors')):
        segmenter = Segmenter.load(fold, device='cpu', precision='fp32')
        unseen = [pair for pair in zip(pairs.images, pairs.masks) if pair[0].match(f'{fold.parent.name}_*')]
        scored = []
        for index, (image, mask) in enumerate(sorted(unseen, key=lambda pair: pair[0].name)):
            pixels, truth = read_pair(image, mask)
            label = segmenter.segment(pixels).label
            miou = Confusion(len(pairs.labels.names)).update(label, truth).miou
            scored.append((miou, index, image.stem, label, truth))
        chosen: list = []
        for row in sorted(scored, key=lambda row: row[:2]):
            if len(chosen) < FRAMES and all(abs(row[1] - other[1]) >= APART for other in chosen):
                chosen.append(row)
        drawn += [_draw(segmenter, name, miou, label, truth) for miou, _, name, label, truth in chosen]
    if not drawn:
        sys.exit(f'failures: FOLDS={os.environ["FOLDS"]} has no SEQUENCE/last.safetensors of {camvid}')
    picture = np.vstack([*drawn, _legend(segmenter, drawn[0].shape[1])])
    path = find_weights('camvid').with_name('camvid_failures.png')
    cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(path)


def _draw(segmenter: Segmenter, name: str, miou: float, label: np.ndarray, truth: np.ndarray) -> np.ndarray:
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
