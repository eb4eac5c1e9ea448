# SPDX-License-Identifier: Apache-2.0
"""The command line as a user types it: once for each kind of outcome in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.image.label_png import read_label_png, write_label_png
from lw_refinenet_ros.one_line import counted


def lw_refinenet(*arguments: object) -> subprocess.CompletedProcess:
    """Run a command in a process of its own."""
    command = [sys.executable, '-m', 'lw_refinenet_ros.cli.main', *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)


@pytest.fixture
def here(capsys):
    """Run a command in this process; return what `lw_refinenet` would."""

    def run(*arguments: object) -> subprocess.CompletedProcess:
        try:
            status = main(list(map(str, arguments)))
        except SystemExit as ended:
            status = ended.code
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, status, said.out, said.err)

    return run


@pytest.fixture
def pictures(tmp_path: Path, street: np.ndarray) -> Path:
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f'frame{index}.png'), np.roll(street, 20 * index, axis=1)[..., ::-1])
    return folder


def test_segment_writes_a_label_and_an_overlay_for_every_image(pictures, tmp_path, tiny_weights):
    done = lw_refinenet('segment', pictures, '--output', tmp_path / 'out', '--weights', tiny_weights)
    assert done.returncode == 0, done.stderr
    segmenter = Segmenter.load(str(tiny_weights))
    for path in sorted(pictures.iterdir()):
        image = np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])
        label = read_label_png(tmp_path / 'out' / 'labels' / f'{path.stem}.png')
        np.testing.assert_array_equal(label, segmenter.segment(image).label)
        assert cv2.imread(str(tmp_path / 'out' / 'overlays' / f'{path.stem}.jpg')).shape == image.shape


def test_evaluate_of_a_networks_own_labels_is_perfect_and_of_others_is_not(
    pictures, tmp_path, tiny_weights, here
):
    here('segment', pictures, '--output', tmp_path, '--weights', tiny_weights)
    arguments = ['evaluate', '--images', pictures, '--labels', tmp_path / 'labels', '--weights', tiny_weights]
    done = here(*arguments, '--json', tmp_path / 'own.json')
    assert done.returncode == 0, done.stderr
    assert done.stderr.count('warning: 3 of 3 masks are predictions of a network itself, not correct') == 1
    own = json.loads((tmp_path / 'own.json').read_text())
    assert own['miou'] == own['pixel_accuracy'] == 1.0
    assert own['frames'] == 3
    assert list(own['latency_ms']) == ['p50', 'p95', 'p99']
    write_label_png(tmp_path / 'labels' / 'frame1.png', np.zeros((96, 128), np.uint8))
    done = here(*arguments, '--json', tmp_path / 'other.json')
    assert 'warning: 2 of 3 masks are predictions' in done.stderr
    for mask in (tmp_path / 'labels').iterdir():
        write_label_png(mask, read_label_png(mask))
    assert 'warning' not in here(*arguments).stderr
    other = json.loads((tmp_path / 'other.json').read_text())
    assert other['pixel_accuracy'] < 1
    assert set(other['per_class_iou']) == {'sky', 'road', 'car'}


def test_info_tells_what_a_file_holds_and_what_works_here(tiny_weights, here):
    about_file = here('info', tiny_weights).stdout
    for part in ('lw_refinenet_efficientnet_lite0', 'tiny', 'sky', 'road'):
        assert part in about_file
    about_here = lw_refinenet('info').stdout
    for part in ('torch', 'openvino', 'engine auto on auto'):
        assert part in about_here


@pytest.mark.parametrize(
    ('arguments', 'status', 'said'),
    [
        (['info', 'none.safetensors'], 1, 'none.safetensors: No such file'),
        (['segment', 'nowhere', '--output', 'OUT'], 1, 'nowhere'),
        (['segment', 'x.png'], 2, '--output'),
        (['evaluate', '--images', 'OUT', '--labels', 'OUT'], 1, 'has no images'),
        (['train', '--data', 'OUT', '--output', 'OUT'], 1, 'has no images/ folder'),
        (['play', 'nowhere.mcap'], 1, 'nowhere.mcap'),
        (['play', 'nowhere.mcap', '--rate', '0'], 2, "--rate: '0' is not a number above 0"),
        (['sing'], 2, "unknown command 'sing': choose one of info, segment"),
    ],
)
def test_a_fault_is_one_line_and_an_exit_code(tmp_path, here, arguments, status, said):
    run = lw_refinenet if arguments[0] in ('info', 'sing') else here
    done = run(*(str(tmp_path) if a == 'OUT' else a for a in arguments))
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert 'Traceback' not in done.stderr
    if status == 1:
        complaints = [line for line in done.stderr.splitlines() if line.startswith('lw_refinenet: ')]
        assert len(complaints) == 1


def test_evaluate_sees_images_at_the_size_at_which_they_were_segmented(
    pictures, tmp_path, tiny_weights, here
):
    sized = ['--weights', tiny_weights, '--network-width', '64']
    here('segment', pictures, '--output', tmp_path, *sized)
    scores = {}
    for name, options in (('own', sized[:2]), ('sized', sized)):
        arguments = [
            '--images',
            pictures,
            '--labels',
            tmp_path / 'labels',
            '--json',
            tmp_path / f'{name}.json',
        ]
        done = here('evaluate', *arguments, *options)
        assert done.returncode == 0, done.stderr
        assert ('images seen at 64 wide' in done.stdout) == (name == 'sized')
        scores[name] = json.loads((tmp_path / f'{name}.json').read_text())
    assert scores['sized']['miou'] == 1.0 > scores['own']['miou']
    assert scores['sized']['conditions']['network_size'] == '64 wide'
    assert 'network_size' not in scores['own']['conditions']


def test_one_of_anything_is_said_in_the_singular(pictures, tmp_path, tiny_weights, here):
    for path in sorted(pictures.iterdir())[1:]:
        path.unlink()
    weights = ['--weights', tiny_weights]
    out, data = tmp_path / 'out', tmp_path / 'data'
    said = here('segment', pictures, '--output', out, *weights).stdout
    assert f'{pictures}: 1 frame, ' in said
    assert (
        '1 label of an earlier run, replaced' in here('segment', pictures, '--output', out, *weights).stderr
    )
    done = here('evaluate', '--images', pictures, '--labels', out / 'labels', *weights)
    assert 'pixel accuracy 100.0% on 1 frame\n' in done.stdout
    assert '1 of 1 mask is a prediction' in done.stderr
    assert f'{data}: 1 frame: ' in here('label', pictures, '--output', data, *weights).stdout
    said = here('label', pictures, '--output', data, *weights).stdout
    assert f'{data}: 0 frames\nnot overwritten: 1 existing mask or' in said
    assert '1 mask reviewed: 0 regions' in here('label', '--review', data, *weights).stdout
    (data / 'labels/frame0.png').unlink()
    assert (
        f'1 of 1 pair in {data} cannot' in here('train', '--data', data, '--output', tmp_path / 'run').stderr
    )


def test_numbers_are_followed_by_their_nouns_and_verbs():
    assert counted(1, 'class', 'is', 'are') == '1 class is'
    assert counted(0, 'class', 'is', 'are') == '0 classes are'
    assert counted(2, 'frame') == '2 frames'


def test_a_video_is_scored_as_a_bag_is_with_masks_named_by_stamps(tmp_path, tiny_weights, street, here):
    video = tmp_path / 'drive.avi'
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*'MJPG'), 10, (128, 96))
    for index in range(4):
        writer.write(np.roll(street, 20 * index, axis=1))
    writer.release()
    here('segment', video, '--output', tmp_path, '--weights', tiny_weights)
    given = ['--labels', tmp_path / 'labels', '--weights', tiny_weights]
    done = here('evaluate', '--bag', video, *given)
    assert done.returncode == 0, done.stderr
    assert 'mIoU 100.0%, pixel accuracy 100.0% on 4 frames' in done.stdout
