# SPDX-License-Identifier: Apache-2.0
"""Frames chosen by `label --next` against frames taken evenly: the mIoU after training on as many of each.

`CAMVID=FOLDER make benchmark ARGS=labelling`, with FOLDER/train and FOLDER/val of images and labels. What is
done is kept in .cache/labelling, so that a run can be interrupted.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import cv2
import numpy as np

from benchmark.table import store
from lw_refinenet_ros.image.label_png import read_label_png, write_label_png
from lw_refinenet_ros.sources.images import images_in

WORK = Path('.cache/labelling')
SEEDS, STARTS = (0, 1, 2), 2
SIZE = (240, 180)  # width and height of all images and masks
START_EVERY, MORE, VAL_EVERY = 12, 40, 3
START_EPOCHS, EPOCHS = 25, 5
SCHEDULE = '--width 64 --crop-height 160 --crop-width 192 --min-scale 0.75 --max-scale 1.5 --batch-size 8'


def main() -> None:
    """Train, choose, train on both choices and score, for every seed."""
    if 'CAMVID' not in os.environ:
        sys.exit('labelling: skipped, CAMVID=FOLDER with train/ and val/ of images and labels is not set')
    rows = [compare(Path(os.environ['CAMVID']), seed) for seed in SEEDS]
    gains = [row['points gained'] for row in rows]
    verdict = (
        f'With `label --next`, {MORE} more frames gave {mean(gains):+.1f} points of mIoU on average '
        f'({min(gains):+.1f} to {max(gains):+.1f}) over as many taken evenly.'
    )
    conditions = (
        f'CamVid at {SIZE[0]}x{SIZE[1]}. The start is every {START_EVERY}th frame of train, others for seed '
        f'1 than for 0 and 2 ({START_EPOCHS} epochs, ImageNet encoder). Then {MORE} of the other frames are '
        f'added, chosen by these weights or taken evenly, and training goes on alike for {EPOCHS} epochs. '
        f'mIoU of the last weights on every {VAL_EVERY}rd frame of val. `lw_refinenet train {SCHEDULE}`.'
    )
    store('labelling', 'Frames to label: chosen or taken evenly', rows, [verdict, conditions], ('torch',))


def compare(camvid: Path, seed: int) -> dict:
    """Return the mIoUs of one seed: at the start, and after training on more frames of either choice."""
    train = camvid / 'train'
    frames = images_in(train / 'images')
    first = seed % STARTS
    start = frames[2 + 4 * first :: START_EVERY]
    others = [frame for frame in frames if frame not in start]
    weights = _train(f'start{first}', train, start, START_EPOCHS, first)
    pool, labelled, output = (WORK / f'{part}{first}' for part in ('pool', 'start', 'chosen'))
    if not output.exists():
        _reduce(pool, train, others)
        choice = ['--next', MORE, '--labelled', labelled, '--weights', weights, '--output', output]
        _run('label', pool / 'images', *choice)
    chosen = {path.stem for path in images_in(output / 'images')}
    evenly = [others[i] for i in np.linspace(0, len(others), MORE, endpoint=False, dtype=int)]
    added = {'next': [frame for frame in others if frame.stem in chosen], 'evenly': evenly}
    trained = {
        name: _train(f'{name}{seed}', train, [*start, *more], EPOCHS, seed, ['--init', weights])
        for name, more in added.items()
    }
    miou = {name: _miou(each, camvid) for name, each in {'start': weights, **trained}.items()}
    return {
        'seed': seed,
        f'{len(start)} frames': miou['start'],
        f'and {MORE} evenly': miou['evenly'],
        f'and {MORE} by --next': miou['next'],
        'points gained': miou['next'] - miou['evenly'],
    }


def _train(
    name: str, split: Path, frames: Sequence[Path], epochs: int, seed: int, init: Sequence[object] = ()
) -> Path:
    """Train on some frames of a split, unless that is done; return the weights."""
    data, run = WORK / name, WORK / f'{name}_run'
    log = run / 'log.csv'
    if log.exists() and len(log.read_text().splitlines()) > epochs:  # after its heading
        return run / 'last.safetensors'
    _reduce(data, split, frames)
    options = [*shlex.split(SCHEDULE), '--epochs', epochs, '--seed', seed, *init]
    _run('train', '--data', data, '--classes', split.parent / 'classes.yaml', '--output', run, *options)
    return run / 'last.safetensors'


def _miou(weights: Path, camvid: Path) -> float:
    """Return the mIoU of weights on frames of val, in percent."""
    data, result = WORK / 'val', weights.with_suffix('.json')
    _reduce(data, camvid / 'val', images_in(camvid / 'val' / 'images')[::VAL_EVERY])
    if not result.exists():
        pairs = ['--images', data / 'images', '--labels', data / 'labels']
        _run('evaluate', *pairs, '--weights', weights, '--json', result)
    return 100 * json.loads(result.read_text())['miou']


def _reduce(folder: Path, split: Path, frames: Sequence[Path]) -> None:
    """Write frames and their masks in the size of the experiment."""
    for part in ('images', 'labels'):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for frame in frames:
        if not (folder / 'labels' / f'{frame.stem}.png').exists():
            image = cv2.resize(cv2.imread(str(frame)), SIZE, interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(folder / 'images' / f'{frame.stem}.png'), image)
            mask = read_label_png(split / 'labels' / f'{frame.stem}.png')
            mask = cv2.resize(mask, SIZE, interpolation=cv2.INTER_NEAREST_EXACT)
            write_label_png(folder / 'labels' / f'{frame.stem}.png', mask)


def _run(*command: object) -> None:
    subprocess.run([sys.executable, '-m', 'lw_refinenet_ros.cli.main', *map(str, command)], check=True)
