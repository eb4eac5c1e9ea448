# SPDX-License-Identifier: Apache-2.0
"""What frames without masks are worth: a tenth of CamVid's masks, with and without the rest, and all masks.

`CAMVID=FOLDER MINUTES=60 python -m benchmark self_training`, with CamVid as FOLDER/train and FOLDER/val. All
three runs take equally many steps: as many as fit into the MINUTES, besides validations, but at least 50
(an epoch of all masks); or, without MINUTES, STEPS (1000). With the same STEPS, interrupted runs are resumed
from .cache/self_training.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmark.table import store
from lw_refinenet_ros.model.weights import read_card

FOLDER = Path('.cache/self_training')
EVERY = 10  # the masks that are kept: one of so many frames
BATCH = 8
WAY = (
    f'--batch-size {BATCH} --least-height 480 --least-width 640 --min-scale 0.6 --max-scale 1.7 --width 64 '
    '--class-weight-offset 0 --jaccard 1 --class-uniform 0.5 --jitter 0.5 '
    '--encoder-rate 4e-4 --decoder-rate 2e-3'
).split()


def main() -> None:
    """Train the three networks with the command, and store their mIoU on val."""
    if 'CAMVID' not in os.environ:
        sys.exit('self_training: skipped, CAMVID=FOLDER with train and val is not set')
    camvid = Path(os.environ['CAMVID']).absolute()
    tenth, rest, images = _split(camvid / 'train')
    steps = int(os.environ.get('STEPS', '1000'))
    if minutes := float(os.environ.get('MINUTES', '0')):
        steps = _steps_in(60 * minutes, tenth)
    some, teacher = -(-images // EVERY), FOLDER / f'tenth_{steps}'
    without_masks = ('--unlabelled', rest, '--teacher', teacher / 'best.safetensors')
    runs = (
        ('a tenth of the masks', tenth, some, teacher, ()),
        ('the same, and the other frames without', tenth, some, FOLDER / f'self_{steps}', without_masks),
        ('all masks', camvid / 'train', images, FOLDER / f'all_{steps}', ()),
    )
    rows = []
    for name, data, frames, run, more in runs:
        epochs = max(1, round(steps / -(-frames // BATCH)))
        _train(data, camvid, run, epochs, more)
        card = read_card(run / 'best.safetensors')
        row = {'trained on': name, 'masks': frames, 'steps': epochs * -(-frames // BATCH)}
        rows.append(row | {'val mIoU (%)': 100 * card.metrics['miou'], 'epoch': card.training['epochs_done']})
    gap = rows[1]['val mIoU (%)'] - rows[2]['val mIoU (%)']
    note = (
        f"CamVid's val split, 101 frames of 480x360; the best validation of each row counts. A step "
        f'has {BATCH} crops of 352x352, and as many without masks in the second row, whose teacher is the '
        f'network of the first. Self-training less all masks: {gap:+.1f} points.'
    )
    store('self_training', 'What frames without masks are worth', rows, [note], ('torch',))


def _split(train: Path) -> tuple[Path, Path, int]:
    """Link every tenth frame with its mask into one folder and the other frames, without, into another."""
    tenth, rest = FOLDER.absolute() / 'tenth', FOLDER.absolute() / 'rest'
    images = sorted((train / 'images').iterdir())
    for index, image in enumerate(images):
        mask = train / 'labels' / f'{image.stem}.png'
        if index % EVERY:
            _link(image, rest / image.name)
        else:
            _link(image, tenth / 'images' / image.name)
            _link(mask, tenth / 'labels' / mask.name)
    _link(train.parent / 'classes.yaml', tenth / 'classes.yaml')
    return tenth, rest, len(images)


def _link(file: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        place.symlink_to(file)


def _steps_in(seconds: float, tenth: Path) -> int:
    """Return how many steps each run can take, from the time of ten; one run has twice the crops."""
    started = time.monotonic()
    with TemporaryDirectory() as trial:
        _command('--data', tenth, '--output', trial, '--epochs', 2, *WAY)
    steps = max(50, int(seconds / ((time.monotonic() - started) / 10) / 4))
    print(f'self_training: STEPS={steps} in place of MINUTES resumes these runs', flush=True)
    return steps


def _train(data: Path, camvid: Path, run: Path, epochs: int, more: tuple) -> None:
    validation = ('--val', camvid / 'val', '--validate-every', max(1, epochs // 5))
    _command('--data', data, '--output', run, '--epochs', epochs, *WAY, *validation, *more)


def _command(*arguments: object) -> None:
    command = [sys.executable, '-m', 'lw_refinenet_ros.cli.main', 'train', *map(str, arguments)]
    if subprocess.run(command, check=False).returncode:
        sys.exit(f'self_training: {" ".join(command[3:])} failed')
