# SPDX-License-Identifier: Apache-2.0
"""The report of 2,000 frames: its size, and how long a browser takes to open it."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmark.drive import CAMERA, CLASSES, cast, picture, rays, scene, true_label
from benchmark.table import store
from lw_refinenet_ros.cli.options import Progress, label_set
from lw_refinenet_ros.evaluation.evaluate import Prediction, evaluate
from lw_refinenet_ros.evaluation.evaluation import merge
from lw_refinenet_ros.evaluation.examples import Example
from lw_refinenet_ros.evaluation.report.evaluation import write_evaluation_report
from lw_refinenet_ros.evaluation.summary import summarize
from lw_refinenet_ros.image.encodings import ColorImage
from test.support.html import CHROMIUM

RECORDINGS, FRAMES, RENDERED, ROUNDS, WORST = 20, 100, 4, 5, 8
PATCHES, PATCH = 12, 24  # per frame that are labelled wrong, and their size in pixels
OPENED = """<!DOCTYPE html><iframe width={width} height=800 src="report.html"></iframe><script>
addEventListener('load', () => document.title = performance.now());
</script>"""


class Drive:
    """The rendered street, each of its frames shifted sideways again and again."""

    description, length, consecutive = 'rendered street', FRAMES, True
    frames_alone, masks_alone = (), ()

    def __init__(self) -> None:
        texture, seen = np.random.default_rng(1).random((512, 512)), rays(CAMERA)
        self.frames, progress = [], Progress('rendered', RENDERED)
        for index in range(RENDERED):
            planes, place = scene(index)
            _, which, along = cast(planes, place, seen)
            self.frames.append((picture(planes, which, along, texture), true_label(planes, which, CAMERA)))
            progress.show(index + 1)

    def read(self, problem, start=0):
        for index in range(start, FRAMES):
            image, truth = (np.roll(each, 3 * index, axis=1) for each in self.frames[index % RENDERED])
            yield Example(
                str(index), index * 100_000_000, 'camera', ColorImage(image, 'rgb'), truth, 1.0, index
            )


def segment(example: Example) -> Prediction:
    """Return the truth with some patches wrong."""
    random = np.random.default_rng(example.index)
    label = np.roll(example.truth, 1, axis=1)
    for row, column in random.integers(0, CAMERA.height - PATCH, (PATCHES, 2)):
        label[row : row + PATCH, column : column + PATCH] = random.integers(len(CLASSES))
    confidence = random.integers(150, 255, (4, 4), np.uint8).repeat(90, 0).repeat(120, 1)
    return Prediction(label, confidence, 20.0)


def open_in_browser(folder: Path, width: int) -> float:
    """Return the seconds until the page has loaded, its script run and its first frames listed."""
    (folder / 'opened.html').write_text(OPENED.format(width=width))
    command = [CHROMIUM, '--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--dump-dom']
    command += [f'--user-data-dir={folder / "profile"}', (folder / 'opened.html').as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(re.search(r'<title>([\d.]+)</title>', shown)[1]) / 1000


def main() -> None:
    """Write a report, open it on a phone and on a desk, and store the table."""
    if CHROMIUM is None:
        sys.exit('report: no Chromium is installed')
    progress = Progress('evaluated', FRAMES)
    part = evaluate(Drive(), segment, label_set(None), worst=WORST, progress=progress.show)
    evaluation = merge({f'recording {number}': part for number in range(RECORDINGS)})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'report.html'
        write_evaluation_report(path, evaluation, summarize(evaluation, {'source': Drive.description}))
        rows = []
        for width in (390, 1280):
            times = [open_in_browser(path.parent, width) for _ in range(ROUNDS + 1)][1:]
            opened = {'open, best s': min(times), 'open, median s': float(np.median(times))}
            rows.append({'width, pixels': width, 'size, MB': path.stat().st_size / 1e6, **opened})
        browser = subprocess.run([CHROMIUM, '--version'], capture_output=True, text=True).stdout.strip()
    goals = (
        f'{FRAMES} rendered frames of {CAMERA.width}x{CAMERA.height}, {PATCHES} patches of each labelled '
        f'wrong, as {RECORDINGS} recordings; {len(CLASSES)} classes. The goals are 15 MB and 2 s.'
    )
    until = (
        f'From the start of the navigation to the load event, the first frames listed; {ROUNDS} times in '
        f'{browser}, headless, after one that was not counted.'
    )
    store('report', 'The report of 2,000 frames', rows, [goals, until], ('numpy', 'opencv-python-headless'))
