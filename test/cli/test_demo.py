# SPDX-License-Identifier: Apache-2.0
"""The demo end to end: player, node and recorder in their own processes, over DDS."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.cli.demo import _advice
from lw_refinenet_ros.files import lock_folder
from lw_refinenet_ros.image.frame import Frame
from lw_refinenet_ros.sources.bag_writer import BagWriter
from lw_refinenet_ros.sources.opening import open_source
from test.support.recordings import assert_every_frame_has_one_fate

pytestmark = pytest.mark.ros

FRAMES = 12
PLAYER = '\0play\0'  # in a command line; a child that has not begun yet shows its parent's, `demo`


def demo(*arguments: object, **options: object) -> list[str]:
    return [sys.executable, '-m', 'lw_refinenet_ros.cli.main', 'demo', *map(str, arguments)]


def run(command: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def bag(tmp_path: Path, street: np.ndarray) -> Path:
    """Twelve frames at 5 Hz."""
    path = tmp_path / 'street.mcap'
    with BagWriter(path) as writer:
        for index in range(FRAMES):
            image = np.roll(street, 9 * index, axis=1)
            stamp_ns = 1_000_000_000 + index * 200_000_000
            frame = Frame.from_array(image, stamp_ns=stamp_ns, frame_id='front', encoding='rgb8')
            writer.write_image('/front/image', frame)
    return path


def children(pid: int) -> set[int]:
    found = set()
    for status in Path('/proc').glob('[0-9]*/status'):
        try:
            text = status.read_text()
        except OSError:
            continue
        if f'PPid:\t{pid}\n' in text:
            found.add(int(status.parent.name))
    return found


def test_the_demo_of_a_bag_records_every_label_with_its_stamp(bag, tmp_path, enlarging_weights):
    out = tmp_path / 'out'
    done = run(demo('--source', bag, '--weights', enlarging_weights, '--output', out))
    assert done.returncode == 0, done.stderr
    metrics = json.loads((out / 'metrics.json').read_text())
    assert_every_frame_has_one_fate(metrics, FRAMES)
    segmented, published = metrics['frames_segmented'], metrics['frames_published']
    assert f'{segmented} of {published} frames segmented' in done.stdout
    assert 'advice' not in done.stdout
    segmenter = Segmenter.load(str(enlarging_weights))
    with open_source(bag) as source:
        images = {f.stamp_ns: f.data.reshape(f.height, f.width, 3) for f in source}
    with open_source(out / 'labels.mcap', topic='/lw_refinenet/label') as source:
        labels = list(source)
    assert len(labels) == len({frame.stamp_ns for frame in labels}) == metrics['frames']
    assert labels[-1].stamp_ns == max(images), 'the last frame arrives though its publisher ends'
    for frame in labels:
        assert frame.frame_id == 'front'
        expected = segmenter.segment(images[frame.stamp_ns]).label
        np.testing.assert_array_equal(frame.data.reshape(expected.shape), expected)
    with av.open(str(out / 'overlay.mp4')) as video:
        assert video.streams.video[0].codec_context.name == 'h264'
        assert sum(1 for _ in video.decode(video=0)) == metrics['frames']
    report = (out / 'report.html').read_text()
    assert '<svg' in report
    assert 'sky' in report


def test_a_network_too_slow_for_the_frames_is_told_which_smaller_size_to_use(
    tmp_path, street, enlarging_weights
):
    large = np.tile(street, (5, 5, 1))  # 640x480
    with BagWriter(tmp_path / 'fast.mcap') as writer:
        for index in range(120):
            frame = Frame.from_array(large, stamp_ns=10**9 + index * 10**6, frame_id='front', encoding='rgb8')
            writer.write_image('/front/image', frame)
    out = tmp_path / 'out'
    done = run(demo('--source', tmp_path / 'fast.mcap', '--weights', enlarging_weights, '--output', out))
    assert done.returncode == 0, done.stderr
    metrics = json.loads((out / 'metrics.json').read_text())
    assert metrics['frames_superseded'] > metrics['frames_segmented'], 'at a thousand frames a second'
    took = f'{metrics["stages_ms"]["inference"]["p50"]:.0f} ms'
    assert (
        f'advice: the network took {took} for a frame of 640x480, and one came every 1 ms; at ' in done.stdout
    )


@pytest.mark.parametrize(
    ('changes', 'seen', 'least', 'said'),
    [
        (
            {},
            (1080, 1920),
            (480, 640),
            'took 600 ms for a frame of 1920x1080, and one came every 33 ms; at 320x',
        ),
        (
            {},
            (1080, 1920),
            (480, 640),
            'at 320x180 it is faster and sees less of what is small: make demo ARGS=',
        ),
        (
            {},
            (1080, 1920),
            (480, 640),
            "ARGS='--network-height 180', and network_height: 180 for the node; lower",
        ),
        ({}, (1080, 1920), (480, 640), '; lower the rate to 23 Hz, too'),  # 600 ms become 34
        ({'rate_hz': 4.0}, (1080, 1920), (480, 640), 'network_height: 543 for the node'),  # 200 of 250 ms
        ({}, (180, 320), (480, 640), 'and one came every 33 ms; lower the rate to 1 Hz'),
        ({}, (1080, 1920), (0, 0), 'network_height: 270 for the node; lower the rate to 12 Hz, too'),
        ({}, (1080, 1920), (32, 32), 'network_height: 154 for the node'),  # 27 of 33 ms
        ({'frames_superseded': 9}, (1080, 1920), (0, 0), ''),
        ({'rate_hz': 1.5}, (1080, 1920), (0, 0), ''),  # superseded for another reason
        ({'rate_hz': None}, (1080, 1920), (0, 0), ''),
        ({'stages_ms': {}}, (1080, 1920), (0, 0), ''),
    ],
)
def test_the_advice_is_given_only_where_a_smaller_size_helps(changes, seen, least, said):
    summary = {'frames_received': 90, 'frames_superseded': 82, 'rate_hz': 30.0}
    summary |= {'stages_ms': {'inference': {'p50': 600.0}}} | changes
    advice = _advice(summary, (1080, 1920), seen, least)
    assert said in advice
    assert bool(advice) == bool(said)
    assert ('lower' in advice) == (changes == {} and least != (32, 32))


def test_the_demo_takes_a_folder_of_images(tmp_path, street, tiny_weights):
    for index in range(4):
        cv2.imwrite(str(tmp_path / f'{index}.png'), street)
    done = run(demo('--source', tmp_path, '--weights', tiny_weights, '--output', tmp_path / 'out'))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'out' / 'report.html').is_file()


def test_images_that_cannot_be_read_are_named_and_the_others_are_shown(tmp_path, street, tiny_weights):
    folder = tmp_path / 'in'
    folder.mkdir()
    for name in ('0.png', '2.png'):
        (folder / name).write_bytes(b'')
    for name in ('1.png', '3.png'):
        cv2.imwrite(str(folder / name), street)
    done = run(demo('--source', folder, '--weights', tiny_weights, '--output', tmp_path / 'out'))
    assert done.returncode == 1
    assert done.stdout.startswith('2 of 2 frames segmented')
    assert (tmp_path / 'out' / 'report.html').is_file()
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f'lw_refinenet: {folder}/0.png: ')
    assert last.endswith('(and 1 more); 2 frames were played')
    assert f'\n{folder}/2.png: ' in done.stderr


def test_an_unusable_source_is_one_line(tmp_path, tiny_weights):
    done = run(
        demo('--source', tmp_path / 'none.mcap', '--weights', tiny_weights, '--output', tmp_path / 'out')
    )
    assert done.returncode == 1
    assert done.stderr.startswith('lw_refinenet: ')
    assert 'none.mcap' in done.stderr


def test_two_demos_do_not_mix_their_results(bag, tmp_path, tiny_weights):
    with lock_folder(tmp_path):
        done = run(demo('--source', bag, '--weights', tiny_weights, '--output', tmp_path))
    assert done.returncode == 1
    assert f'{tmp_path} is in use by another process' in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [bag.name]


@pytest.mark.parametrize('how', ['SIGINT', 'SIGTERM', 'node dies', 'player dies'])
def test_however_it_ends_no_process_is_left(bag, tmp_path, tiny_weights, how):
    command = demo('--source', bag, '--weights', tiny_weights, '--output', tmp_path / 'out')
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wanted = 'lw_refinenet_ros.node.main' if how == 'node dies' else PLAYER
    end = time.monotonic() + 60
    started: dict[int, str] = {}
    while not any(PLAYER in line for line in started.values()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, 'no player came up'
        for pid in children(process.pid):
            line = Path(f'/proc/{pid}/cmdline')
            started[pid] = line.read_text() if line.exists() else ''
        time.sleep(0.05)
    if how.startswith('SIG'):
        process.send_signal(signal.Signals[how])
    else:
        os.kill(next(pid for pid, line in started.items() if wanted in line), signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == {'SIGINT': 130, 'SIGTERM': 143}.get(how, 1), stderr
    assert 'Traceback' not in stderr
    if not how.startswith('SIG'):
        assert f'the {how.split()[0]} ended with status -9' in stderr
    assert not any(Path(f'/proc/{pid}').exists() for pid in started)
    assert not (tmp_path / 'out' / 'labels.mcap').exists(), 'half a recording is no recording'
