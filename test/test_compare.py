# SPDX-License-Identifier: Apache-2.0
"""`lw_refinenet compare`: differences, their intervals and the frames behind them."""

import json

import numpy as np
import pytest
from test_report import Checker

from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.evaluation.compare import compare

CLASSES = ['sky', 'road', 'absent']


def evaluation(right, *, total=1000, classes=CLASSES, first=0):
    """Frames whose two classes have so many of their pixels in common."""
    rows = np.array([[share, share // 2, 0] for share in right])
    return {
        'classes': classes,
        'conditions': {'engine': 'a <b>'},
        'per_frame': {
            'name': [f'f{first + i}' for i in range(len(right))],
            'stamp_ns': [(first + i) * 10**9 for i in range(len(right))],
            'intersection': rows.tolist(),
            'union': [[total, total, 0]] * len(right),
        },
    }


def random_rights(seed, count=60, low=300, high=900):
    return np.random.default_rng(seed).integers(low, high, count)


def test_a_constant_gain_is_sure_and_exact_however_much_the_frames_differ():
    before = random_rights(1)
    found = compare(evaluation(before), evaluation(before + 20))
    sky, road, absent = found.classes
    assert sky.difference == pytest.approx(0.02)
    assert (sky.low, sky.high) == (pytest.approx(0.02), pytest.approx(0.02))
    assert (sky.verdict, road.verdict, absent.verdict) == ('better', 'better', 'unsure')
    assert absent.difference is None
    assert found.miou.difference == pytest.approx(0.015)
    swapped = compare(evaluation(before + 20), evaluation(before))
    assert (swapped.miou.verdict, swapped.miou.difference) == ('worse', -found.miou.difference)


def test_noise_alone_is_unsure_and_its_interval_has_the_width_of_the_standard_error():
    noise = np.random.default_rng(5).normal(0, 50, 400).round().astype(int)
    before = random_rights(2, 400)
    found = compare(evaluation(before), evaluation(before + noise - round(noise.mean())))
    sky = found.classes[0]
    assert sky.verdict == 'unsure'
    assert sky.low < 0 < sky.high
    assert sky.high - sky.low == pytest.approx(2 * 1.96 * 0.05 / np.sqrt(400), rel=0.15)


def test_the_same_files_give_the_same_interval_and_no_change_is_none():
    a, b = evaluation(random_rights(1)), evaluation(random_rights(2))
    assert compare(a, b) == compare(a, b)
    same = compare(a, a)
    assert (same.miou.difference, same.miou.low, same.miou.high) == (0, 0, 0)
    assert same.miou.verdict == 'unsure'


def test_blocks_of_frames_that_change_alike_make_the_interval_wider():
    before = random_rights(3, 100)
    gains = np.repeat(np.random.default_rng(4).normal(0, 50, 10).round().astype(int), 10)
    pair = evaluation(before), evaluation(before + gains)
    frames, blocks = compare(*pair).classes[0], compare(*pair, block_s=10).classes[0]
    assert blocks.difference == frames.difference
    assert blocks.high - blocks.low > 2 * (frames.high - frames.low)


def test_the_frames_that_changed_most_are_named_and_those_of_one_only_too():
    before, after = [500] * 10, [500] * 10
    after[3], after[7] = 100, 800
    found = compare(evaluation(before), evaluation(after[1:], first=1))
    assert [frame.name for frame in found.most_changed(2)] == ['f3', 'f7']
    assert (found.only_before, found.only_after) == (['f0'], [])
    assert len(found.frames) == 9


def test_the_command_prints_saves_and_reports(tmp_path, capsys):
    before = random_rights(1)
    (tmp_path / 'a.json').write_text(json.dumps(evaluation(before)))
    (tmp_path / 'b.json').write_text(json.dumps(evaluation(before + 20)))
    files = [str(tmp_path / name) for name in ('a.json', 'b.json', 'c.json', 'c.html')]
    assert main(['compare', *files[:2], '--json', files[2], '--report', files[3]]) == 0
    assert 'mIoU +1.50 points (+1.50 to +1.50), better; 2 classes better' in capsys.readouterr().out
    saved = json.loads((tmp_path / 'c.json').read_text())
    assert saved['miou']['verdict'] == 'better'
    assert saved['per_class_iou']['sky']['interval'] == pytest.approx([0.02, 0.02])
    checker = Checker((tmp_path / 'c.html').read_text())
    assert 'a <b>' in checker.texts
    assert len(checker.all('rect', **{'class': 'bar'})) == len(before)


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        ('{"miou": 1}', "is not the --json of an evaluation: KeyError: 'per_frame'"),
        ('no json', 'is not the --json of an evaluation: JSONDecodeError'),
        (json.dumps(evaluation([5], classes=['a', 'b', 'c'])), 'the classes differ'),
        (json.dumps(evaluation([5], first=99)), 'no frame is in both'),
        (json.dumps({**evaluation([5]), 'classes': ['sky']}), 'its per_frame lists differ in length'),
    ],
)
def test_what_cannot_be_compared_is_one_line(tmp_path, capsys, content, said):
    (tmp_path / 'a.json').write_text(json.dumps(evaluation([500])))
    (tmp_path / 'b.json').write_text(content)
    assert main(['compare', str(tmp_path / 'a.json'), str(tmp_path / 'b.json')]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count('\n') == 1
