# SPDX-License-Identifier: Apache-2.0
"""`evaluate --corrupt`: images made worse in a way that can be repeated, and what is left of the labels."""

import json
import re

import cv2
import numpy as np
import pytest

from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.evaluation.confusion import Confusion
from lw_refinenet_ros.evaluation.robustness import CORRUPTIONS, corrupt
from lw_refinenet_ros.image.label_png import write_label_png
from test.support.html import Checker
from test.support.recordings import pictures


def test_every_corruption_is_reproducible_and_each_step_is_further_from_the_image(street):
    street = np.repeat(np.repeat(street, 4, 0), 4, 1)  # tall enough for the least blur
    once, again, other = corrupt(street, 3), corrupt(street, 3), corrupt(street, 4)
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))
    errors = [np.abs(image.astype(int) - street).mean() for image in once]
    steps = np.array(errors).reshape(len(CORRUPTIONS), -1)
    assert steps.shape == (5, 5)
    assert (np.diff(steps, axis=1) > 0).all()
    assert steps[:, 0].min() > 0
    changed = [not np.array_equal(a, b) for a, b in zip(once, other)]
    assert changed == [kind in ('noise', 'dark', 'fog') for kind in CORRUPTIONS for _ in range(5)]


@pytest.fixture
def data(tmp_path, street, tiny_weights):
    """Two images, whose masks are what the network sees in them."""
    segmenter = Segmenter.load(str(tiny_weights), engine='torch', precision='fp32', threads=1)
    for folder in ('images', 'labels'):
        (tmp_path / folder).mkdir()
    for index, image in enumerate(pictures(street, 2)):
        cv2.imwrite(str(tmp_path / f'images/{index}.png'), image[..., ::-1])
        write_label_png(tmp_path / f'labels/{index}.png', segmenter.segment(image).label)
    return tmp_path


def test_the_figures_are_those_of_the_corrupted_images(data, tiny_weights, street, capsys):
    engine = ['--weights', str(tiny_weights), '--engine', 'torch', '--precision', 'fp32', '--threads', '1']
    files = ['--json', str(data / 'r.json'), '--report', str(data / 'r.html')]
    given = ['--images', str(data / 'images'), '--labels', str(data / 'labels'), '--corrupt']
    assert main(['evaluate', *given, *engine, *files]) == 0
    said = capsys.readouterr().out
    found = json.loads((data / 'r.json').read_text())
    assert found['miou'] == 1
    assert list(found['robustness']) == list(CORRUPTIONS)
    segmenter = Segmenter.load(str(tiny_weights), engine='torch', precision='fp32', threads=1)
    clean = [segmenter.segment(image).label for image in pictures(street, 2)]
    worse = [corrupt(image, index) for index, image in enumerate(pictures(street, 2))]
    for number, kind in enumerate(CORRUPTIONS):
        confusion = Confusion(3)
        for truth, images in zip(clean, worse):
            confusion.update(segmenter.segment(images[5 * number + 4]).label, truth)
        assert found['robustness'][kind]['miou'][4] == confusion.miou
        assert found['robustness'][kind]['per_class_iou']['sky'][4] == confusion.iou[0]
        assert re.search(rf'{kind} +100\.0%', said)
    checker = Checker((data / 'r.html').read_text())
    assert 'Robustness' in checker.texts
    assert len(checker.all('td', **{'class': 'kept'})) == 5 * 6


def test_a_live_run_cannot_be_corrupted(capsys):
    assert main(['evaluate', '--bag', 'x', '--labels', '/m', '--live', '--corrupt']) == 2
    assert '--corrupt changes frames before they are segmented' in capsys.readouterr().err
