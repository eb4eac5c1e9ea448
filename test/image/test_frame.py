# SPDX-License-Identifier: Apache-2.0
import random
import struct
from array import array

import cv2
import numpy as np
import pytest

from lw_refinenet_ros.image.compressed import decode_image, parse_compressed_image
from lw_refinenet_ros.image.encodings import color_image
from lw_refinenet_ros.image.frame import Frame, FrameError, parse_image, serialize_image
from test.support.cdr import IMAGE, TYPES, compressed_cdr, image_cdr, reason


@pytest.mark.parametrize('little', [True, False])
def test_every_alignment_of_strings_parses_as_rosbags_does(little):
    for frame_length in range(9):
        for encoding_length in range(9):
            cdr = image_cdr(
                frame_id='f' * frame_length, encoding='e' * encoding_length, little=little, bigendian=1
            )
            expected = TYPES.deserialize_cdr(cdr, IMAGE)
            frame = parse_image(cdr)
            assert frame.stamp_ns == 12_000_000_034
            assert frame.frame_id == expected.header.frame_id
            assert frame.encoding == expected.encoding
            assert (frame.height, frame.width, frame.step) == (2, 3, 9)
            assert frame.is_bigendian is True
            assert np.array_equal(frame.data, expected.data)


@pytest.mark.ros
def test_what_rclpy_serializes_parses():
    from rclpy import serialization
    from sensor_msgs import msg as messages

    for length in range(9):
        message = messages.Image(height=2, width=2, encoding='m' * (8 - length), step=2 + length)
        message.header.frame_id = 'ü' * length
        message.header.stamp.sec, message.header.stamp.nanosec = 7, 999_999_999
        message.data = array('B', range(2 * message.step))
        frame = parse_image(serialization.serialize_message(message))
        assert frame.stamp_ns == 7_999_999_999
        assert (frame.frame_id, frame.encoding) == (message.header.frame_id, message.encoding)
        assert (frame.height, frame.width, frame.step, frame.is_bigendian) == (2, 2, 2 + length, False)
        assert frame.data.tobytes() == message.data.tobytes()


def test_every_alignment_of_strings_is_serialized_as_rosbags_does():
    for length in range(5):
        encoding = ('mono8', 'rgb8', '8UC1', 'bayer_rggb8', 'yuv422')[length]
        cdr = image_cdr(height=3, width=2, step=8, encoding=encoding, frame_id='é' + length * 'x', sec=-1)
        assert serialize_image(parse_image(cdr)) == cdr


@pytest.mark.parametrize('kind', [bytes, bytearray, memoryview])
def test_the_data_is_a_view_of_the_message(kind):
    cdr = kind(image_cdr())
    assert np.shares_memory(parse_image(cdr).data, np.frombuffer(cdr, np.uint8))


def test_a_message_cut_at_any_byte_is_truncated():
    cdr = image_cdr(frame_id='odd')
    for end in range(len(cdr)):
        assert reason(parse_image, cdr[:end]) == 'truncated', end


def test_padding_behind_the_message_is_allowed():
    assert parse_image(image_cdr() + bytes(3)).data.size == 18


@pytest.mark.parametrize('kind', ['0006', '0007', '0002', '0003', '0009', '0100', 'ffff'])
def test_other_encapsulations_are_refused_by_name(kind):
    cdr = bytes.fromhex(kind) + image_cdr()[2:]
    assert reason(parse_image, cdr) == 'encapsulation'
    with pytest.raises(FrameError, match=f'{kind[:2]} {kind[2:]}.*plain CDR'):
        parse_image(cdr)


def test_huge_lengths_are_truncations_and_allocate_nothing():
    cdr = image_cdr()
    for offset in (12, 32, 48):  # of frame_id, encoding, data
        for length in (0xFFFFFFFF, 0x7FFFFFFF, len(cdr)):
            damaged = bytearray(cdr)
            struct.pack_into('<I', damaged, offset, length)
            assert reason(parse_image, bytes(damaged)) == 'truncated'
    assert (
        reason(parse_image, image_cdr(np.zeros(8, np.uint8), 2**32 - 1, 2**32 - 1, step=2**32 - 1))
        == 'length'
    )


@pytest.mark.parametrize(('height', 'width'), [(0, 3), (2, 0), (0, 0)])
def test_a_frame_without_pixels_is_refused(height, width):
    assert reason(parse_image, image_cdr(np.zeros(0, np.uint8), height, width)) == 'size'


@pytest.mark.parametrize('missing', [1, 3, 9, 18])
def test_a_short_last_row_is_refused(missing):
    assert reason(parse_image, image_cdr(np.zeros(18 - missing, np.uint8))) == 'length'


def test_stamps_before_the_epoch_and_broken_text_are_kept():
    assert parse_image(image_cdr(sec=-1, nanosec=5)).stamp_ns == -999_999_995
    cdr = image_cdr(frame_id='abc').replace(b'abc', b'a\xff\xfe')
    assert parse_image(cdr).frame_id == 'a\ufffd\ufffd'


def test_mutated_messages_raise_nothing_but_frame_errors():
    rng = random.Random(0)
    seeds = [
        image_cdr(height=4, width=4, encoding=encoding, step=16, little=little)
        for encoding in ('rgb8', 'mono16', 'nv12', 'bayer_rggb8', 'yuv422', 'rgba8')
        for little in (True, False)
    ]
    for _ in range(100_000):
        cdr = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 4)):
            cdr[rng.randrange(len(cdr) if rng.random() < 0.2 else 60)] = rng.choice(
                (0, 1, 2, 255, rng.randrange(256))
            )
        try:
            color_image(parse_image(bytes(cdr)))
        except FrameError as error:
            assert error.reason


def test_from_array_makes_tight_rows_and_copies_only_what_is_scattered():
    tight = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    frame = Frame.from_array(tight, stamp_ns=1, frame_id='c', encoding='rgb8')
    assert (frame.height, frame.width, frame.step) == (2, 4, 12)
    assert np.shares_memory(frame.data, tight)
    half = Frame.from_array(tight[:, :2], stamp_ns=1, frame_id='c', encoding='rgb8')
    assert half.step == 6
    assert np.array_equal(color_image(half).array, tight[:, :2])


RED = np.zeros((16, 16, 3), np.uint8) + np.array([0, 0, 200], np.uint8)  # BGR


@pytest.mark.parametrize(
    ('suffix', 'written', 'encoding'),
    [
        ('.jpg', 'jpeg', 'bgr8'),
        ('.png', 'png', 'bgr8'),
        ('.jpg', 'rgb8; jpeg compressed bgr8', 'bgr8'),
        ('.jpg', 'mono8; jpeg compressed ', 'bgr8'),
        ('.png', 'rgb8; png compressed rgb8', 'rgb8'),
        ('.jpg', 'bgr8; jpeg compressed ', 'rgb8'),
        ('.png', 'bayer_rggb8; png compressed ', 'bayer_rggb8'),
    ],
)
def test_a_compressed_image_is_what_its_format_says(suffix, written, encoding):
    source = RED[..., 2] if 'bayer' in written else RED
    frame = parse_compressed_image(compressed_cdr(cv2.imencode(suffix, source)[1].tobytes(), written))
    assert frame.encoding == encoding
    assert (frame.stamp_ns, frame.frame_id, frame.height, frame.width) == (12_000_000_034, 'camera', 16, 16)
    array = frame.data.reshape(source.shape)
    assert np.abs(array.astype(int) - source).max() <= 3


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_a_truncated_compressed_image_is_refused_rather_than_filled_with_grey(suffix):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    content = cv2.imencode(suffix, noise)[1].tobytes()
    for end in range(4, len(content), 7):
        assert reason(parse_compressed_image, compressed_cdr(content[:end])) == 'truncated', end
    assert decode_image(content + b'\0' * 100).shape == (32, 32, 3)
    assert decode_image(content + b'a trailer \xff\xda without an end').shape == (32, 32, 3)
    cdr = compressed_cdr(content)
    assert reason(parse_compressed_image, cdr[: len(cdr) // 2]) == 'truncated'


@pytest.mark.parametrize('content', [b'', b'nonsense', b'\xff\xd8\xff\xd9'])
def test_what_is_no_image_cannot_be_decoded(content):
    assert reason(parse_compressed_image, compressed_cdr(content)) == 'decode'
