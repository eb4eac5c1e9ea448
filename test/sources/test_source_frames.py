# SPDX-License-Identifier: Apache-2.0
"""Frames of a source: each has its own name and the time it was recorded, whatever its header says."""

import os

import cv2
import numpy as np
import pytest

from lw_refinenet_ros.sources.opening import open_source
from lw_refinenet_ros.sources.source import StampNames
from test.support.recordings import START_NS, STEP_NS, record

SECOND = 1_000_000_000
T, ZERO = START_NS, 19 * '0'
STAMPS = {
    'zero': [0] * 6,
    'repeated': [T, T + 1, T + 1, T + 2, T + 2, T + 3],
    'from zero': [0, 1, 2, 3, 4, 5],
    'one zero': [0, T, T + 1, T + 2, T + 3, T + 4],
    'zero inside': [T, T + 1, 0, T + 3, 0, T + 5],
    'back': [T + 50, T + 60, T, T + 10, T + 20, T + 50],
}
NAMES = {
    'zero': [ZERO, *(f'{ZERO}_{index}' for index in range(1, 6))],
    'from zero': [f'000000000000000000{index}' for index in range(6)],
    'one zero': [ZERO, *(str(T + index) for index in range(5))],
    'repeated': [str(T), str(T + 1), f'{T + 1}_2', str(T + 2), f'{T + 2}_4', str(T + 3)],
    'zero inside': [str(T), str(T + 1), ZERO, str(T + 3), f'{ZERO}_4', str(T + 5)],
    'back': [*(str(T + shift) for shift in (50, 60, 0, 10, 20)), f'{T + 50}_5'],
}


def shade(index):
    return np.full((24, 32, 3), 40 * index, np.uint8)


@pytest.mark.parametrize('kind', ['mcap', 'db3', 'ros1'])
@pytest.mark.parametrize('stamps', STAMPS)
def test_frames_of_any_stamps_come_in_the_order_of_the_log_each_with_a_name_of_its_own(
    stamps, kind, tmp_path
):
    log = [START_NS + index * STEP_NS for index in range(6)]
    frames = [(stamp_ns, shade(i), log[i]) for i, stamp_ns in enumerate(STAMPS[stamps])]
    with open_source(record(tmp_path / 'bag', {'/image': ('rgb8', frames)}, kind)) as source:
        assert source.rate_hz == pytest.approx(10)
        for _ in range(2):
            read = list(source)
            assert [frame.stamp_ns for frame in read] == STAMPS[stamps]
            assert [frame.log_ns for frame in read] == log
            assert [frame.data[0] for frame in read] == [40 * index for index in range(6)]
            assert [frame.name for frame in read] == NAMES[stamps]
            assert read[3].where.endswith(f': message 3 of /image, logged at {log[3]} ns')


def test_a_name_does_not_depend_on_frames_that_cannot_be_read(tmp_path):
    """The first two of zero stamps are damaged; the others have the names that they would have had."""
    frames = [(0, shade(index), START_NS + index) for index in range(4)]
    path = record(tmp_path / 'bag', {'/image/compressed': ('png', frames)}, 'mcap') / 'bag.mcap'
    content = bytearray(path.read_bytes())
    at = 0
    for _ in range(2):
        at = content.index(b'\x89PNG', at) + 4
        content[at : at + 8] = bytes(8)
    path.write_bytes(content)
    errors = []
    with open_source(path, on_error=errors.append) as source:
        assert [frame.name for frame in source] == [f'{ZERO}_2', f'{ZERO}_3']
    assert [f'message {index} of /image/compressed' in str(e) for index, e in enumerate(errors)] == [True] * 2


def test_no_two_stamps_of_many_in_any_order_have_one_name():
    stamps = np.random.default_rng(1).integers(-50, 50, 1000).tolist()
    names = StampNames()
    given = [names.name(stamp_ns, index) for index, stamp_ns in enumerate(stamps)]
    assert len(set(given)) == len(stamps)
    firsts = {stamp_ns: stamps.index(stamp_ns) for stamp_ns in stamps}
    assert all(int(given[index]) == stamp_ns for stamp_ns, index in firsts.items())


def test_images_of_a_folder_whose_stems_repeat_have_names_of_their_own(tmp_path):
    for name in ('a.jpg', 'a.png', 'a_1.png', 'b.bmp'):
        cv2.imwrite(str(tmp_path / name), shade(1))
    with open_source(tmp_path) as source:
        frames = list(source)
    assert [frame.name for frame in frames] == ['a', 'a_1_', 'a_1', 'b']
    assert [frame.where for frame in frames] == [str(path) for _, path in source.files]
    assert [frame.log_ns for frame in frames] == [SECOND + SECOND // 10 * index for index in range(4)]


def test_a_folder_has_the_images_of_every_format_that_opencv_reads_and_no_hidden_ones(tmp_path):
    formats = ('jpg', 'JPEG', 'jp2', 'png', 'bmp', 'dib', 'tif', 'TIFF', 'webp', 'gif', 'ppm', 'pnm', 'ras')
    formats = [each for each in formats if cv2.haveImageWriter(f'x.{each.lower()}')]
    for index, suffix in enumerate(formats):
        image = np.full((64, 64, 3), 40 * (index // 3), np.uint8)  # smaller ones JPEG 2000 does not take
        content = cv2.imencode(f'.{suffix.lower()}', image)[1].tobytes()
        (tmp_path / f'{index:02}.{suffix}').write_bytes(content)
        (tmp_path / f'._{index:02}.{suffix}').write_bytes(b'Mac OS X')
        (tmp_path / f'.{index:02}.{suffix}').write_bytes(content)
    with open_source(tmp_path) as source:
        shades = [int(frame.data.mean()) for frame in source]
    assert shades == pytest.approx([40 * (index // 3) for index in range(len(formats))], abs=2)


def test_image_files_may_have_names_that_are_not_utf_8(tmp_path):
    content = cv2.imencode('.png', shade(1))[1].tobytes()
    for name in (b'caf\xe9.png', b'ok.png'):
        (tmp_path / os.fsdecode(name)).write_bytes(content)
    with open_source(tmp_path) as source:
        assert [os.fsencode(frame.name) for frame in source] == [b'caf\xe9', b'ok']


def test_an_image_that_is_a_pipe_is_named_and_passed_over(tmp_path):
    from lw_refinenet_ros.sources.images import ImageSource

    for name in ('a.png', 'c.png'):
        cv2.imwrite(str(tmp_path / name), shade(1))
    os.mkfifo(tmp_path / 'b.png')
    errors = []
    source = ImageSource('images', [tmp_path / name for name in ('a.png', 'b.png', 'c.png')], errors.append)
    assert [frame.name for frame in source] == ['a', 'c']
    assert [f'{tmp_path / "b.png"} is a pipe' in str(error) for error in errors] == [True]


def test_files_whose_numbers_are_later_than_ros_can_say_are_no_stamps(tmp_path):
    for name in ('2147483647999999999', '2147483648000000000'):
        cv2.imwrite(str(tmp_path / f'{name}.png'), shade(1))
        with open_source(tmp_path) as source:
            first = next(iter(source))
        assert (first.stamp_ns == int(first.name)) == (name < '2147483648')


def test_a_depth_that_is_compressed_is_not_taken_for_the_image(tmp_path):
    depth = np.zeros((24, 32), np.uint8)
    topics = {
        '/camera/color/image_raw': ('rgb8', [(T, shade(1))]),
        '/depth/compressedDepth': ('png', [(T, depth)]),
    }
    with open_source(record(tmp_path / 'bag', topics)) as source:
        assert source.topic == '/camera/color/image_raw'
