# SPDX-License-Identifier: Apache-2.0
"""Damaged messages, weights and label files; `python -m benchmark.faults` tries many more."""

import os
import subprocess
import sys
import textwrap
import time

import cv2
import numpy as np
import pytest

from lw_refinenet_ros.image.compressed import decode_image
from lw_refinenet_ros.image.encodings import color_image
from lw_refinenet_ros.image.frame import Frame, FrameError, parse_image
from lw_refinenet_ros.labels import LabelSet
from lw_refinenet_ros.model.weights import WeightsError
from lw_refinenet_ros.node.process.fast_dds import remove_dead_segments
from test.support import ROOT
from test.support.faults.files import load_damaged, read_damaged_labels
from test.support.faults.messages import inside, originals, view_damaged


def test_twenty_thousand_damaged_messages_are_viewed_inside_or_refused_with_a_reason():
    fates = view_damaged(20_000, seed=0)
    assert fates.total() == 20_000
    for kind in originals():
        assert fates[kind, 'viewed'] and fates[kind, 'converted']
    reasons = {reason for _, reason in fates}
    assert reasons >= {'truncated', 'encapsulation', 'stamp', 'size', 'step', 'length', 'encoding', 'decode'}


def test_the_check_of_addresses_sees_a_view_that_reaches_beyond():
    message = np.zeros(100, np.uint8)
    assert inside(message[10:40].reshape(5, 6), message[10:40])
    assert not inside(message[10:41], message[10:40])
    assert not inside(message[9:40], message[10:40])
    wide = np.lib.stride_tricks.as_strided(message[10:], (3, 4), (16, 1))
    assert inside(wide, message[10:46])
    assert not inside(wide, message[10:45])


def test_the_guard_page_ends_a_process_that_reads_beyond_the_message():
    program = """
        import ctypes
        from test.support.faults.messages import GuardedMemory
        place = GuardedMemory(100).place(b'message')
        address = ctypes.addressof(ctypes.c_char.from_buffer(place))
        print(ctypes.string_at(address, 7), flush=True)
        ctypes.string_at(address, 8)
    """
    command = [sys.executable, '-c', textwrap.dedent(program)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "b'message'"
    assert done.returncode < 0


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_a_size_that_the_bytes_cannot_hold_is_refused_before_memory_is_taken(suffix):
    content = bytearray(cv2.imencode(suffix, np.zeros((16, 16, 3), np.uint8))[1].tobytes())
    at = content.index(b'\xff\xc0') + 5 if suffix == '.jpg' else 18
    content[at : at + 2] = b'\x13\x88'
    at += 2 if suffix == '.jpg' else 4
    content[at : at + 2] = b'\x13\x88'
    with pytest.raises(FrameError, match=r'5000x5000 pixels cannot be in an image of \d+ bytes') as caught:
        decode_image(bytes(content))
    assert caught.value.reason == 'size'


def test_a_png_whose_chunk_is_longer_than_the_file_is_truncated():
    content = bytearray(cv2.imencode('.png', np.zeros((16, 16, 3), np.uint8))[1].tobytes())
    content[content.index(b'IDAT') - 4] = 0x40  # a gigabyte that OpenCV would allocate
    with pytest.raises(FrameError, match='truncated'):
        decode_image(bytes(content))


def test_a_phones_heic_is_called_that():
    with pytest.raises(FrameError, match='112 bytes of HEIC are no readable image: use JPEG or PNG'):
        decode_image(b'\0\0\0\x18ftypheic' + bytes(100))


@pytest.mark.parametrize('quality', [1, 50, 100])
@pytest.mark.parametrize('progressive', [0, 1])
@pytest.mark.parametrize('restart', [0, 1])
def test_the_emptiest_images_are_decoded(quality, progressive, restart):
    black = np.zeros((1080, 1920, 3), np.uint8)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
    options += [cv2.IMWRITE_JPEG_RST_INTERVAL, restart, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    assert decode_image(cv2.imencode('.jpg', black, options)[1].tobytes()).shape == black.shape
    bits = cv2.imencode('.png', black[..., 0], [cv2.IMWRITE_PNG_COMPRESSION, 9, cv2.IMWRITE_PNG_BILEVEL, 1])
    assert decode_image(bits[1].tobytes()).shape == black.shape


def test_a_stamp_that_no_header_can_say_is_refused():
    cdr = bytearray(originals()['Image'][0])
    cdr[4:8], cdr[8:12] = (0x7FFFFFFF).to_bytes(4, 'little'), (999_999_999).to_bytes(4, 'little')
    assert parse_image(bytes(cdr)).stamp_ns == 0x7FFFFFFF * 10**9 + 999_999_999
    cdr[8:12] = (10**9).to_bytes(4, 'little')
    with pytest.raises(FrameError, match='later than a header can say') as caught:
        parse_image(bytes(cdr))
    assert caught.value.reason == 'stamp'


def test_an_encoding_of_a_megabyte_is_not_repeated_in_the_log():
    frame = Frame(0, '', 1, 1, 'x' * 10**6, 3, np.zeros(3, np.uint8))
    with pytest.raises(FrameError) as caught:
        color_image(frame)
    assert len(str(caught.value)) < 400


def test_damaged_weights_are_taken_whole_or_refused_in_one_line(tiny_weights, tmp_path):
    fates = load_damaged(tiny_weights, 30, seed=2, folder=tmp_path)
    assert {kind for kind, fate in fates if fate == 'refused'} >= {'cut', 'card', 'header bytes'}
    assert fates['tensor bytes', 'taken']


def test_damaged_label_files_are_taken_whole_or_refused_in_one_line(tmp_path):
    fates = read_damaged_labels(ROOT / 'config/labels/camvid.yaml', 100, seed=0, folder=tmp_path)
    assert fates['refused'] > 20
    assert fates['taken']


def test_what_a_file_says_wrong_is_cut_to_one_line():
    assert str(WeightsError('a\nb\tc\x1b[31m' + 'x' * 10**5)).startswith(
        'a b c\N{REPLACEMENT CHARACTER}[31mx'
    )
    assert len(str(WeightsError('x' * 10**5))) < 600


@pytest.mark.parametrize('name', ['x' * 101, 'a\nb', ''])
def test_a_class_name_that_no_log_can_show_is_refused(name):
    with pytest.raises(ValueError, match='1 to 100 printable characters'):
        LabelSet('set', (name,), ((0, 0, 0),))


def test_segments_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path):
    import fcntl

    long_ago = time.time() - 60
    for name in ('fastdds_0123456789abcdef', 'fastrtps_0123456789abcdef', 'fastdds_00000000000000aa',
                 'fastdds_00000000000000bb', 'fastdds_port7411', 'mine'):  # fmt: skip
        (tmp_path / name).write_bytes(bytes(8192))
        lock = tmp_path / f'{name}_el'
        lock.touch()
        os.utime(lock, (long_ago, long_ago))
    (tmp_path / 'fastdds_00000000000000bb_el').touch()  # of a process that is just starting
    with (tmp_path / 'fastdds_00000000000000aa_el').open('rb') as living:
        fcntl.flock(living, fcntl.LOCK_EX)
        assert remove_dead_segments(tmp_path) == 2 * 8192
    names = {path.name for path in tmp_path.iterdir()}
    kept = {'fastdds_00000000000000aa', 'fastdds_00000000000000bb', 'fastdds_port7411', 'mine'}
    assert names == kept | {f'{name}_el' for name in kept}


@pytest.mark.parametrize('size', [(1, 16385), (16385, 1)])
def test_a_side_that_no_camera_has_is_refused_as_bad_before_anything_is_compiled(size):
    frame = Frame(0, '', *size, 'mono8', size[1], np.zeros(size[0] * size[1], np.uint8))
    with pytest.raises(FrameError, match='at most 16384') as caught:
        color_image(frame)
    assert caught.value.reason == 'size'
