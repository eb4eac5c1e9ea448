# SPDX-License-Identifier: Apache-2.0
"""Compressed images: taken whole as cameras send them, or refused; their colours and bits are kept."""

import io
import struct
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from lw_refinenet_ros.image.compressed import decode_image, parse_compressed_image
from lw_refinenet_ros.image.encodings import rgb
from lw_refinenet_ros.image.frame import FrameError
from test.support.cdr import compressed_cdr, reason

NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
RED = np.zeros((16, 16, 3), np.uint8) + np.array([20, 40, 200], np.uint8)  # BGR
END = b'\xff\xd9'


def jpeg(*options, picture=NOISE):
    return cv2.imencode('.jpg', picture, options)[1].tobytes()


@pytest.mark.parametrize('picture', [NOISE, NOISE[..., 0], cv2.GaussianBlur(NOISE, (0, 0), 5)])
@pytest.mark.parametrize('options', [(), (cv2.IMWRITE_JPEG_RST_INTERVAL, 1), (cv2.IMWRITE_JPEG_QUALITY, 20)])
@pytest.mark.parametrize(
    'padding', [b'', bytes(510), b'\xff' * 99, b'\xff'], ids=['none', '0', 'ff', 'one ff']
)
def test_a_jpeg_that_lacks_its_end_marker_only_is_taken_whole(picture, options, padding):
    whole = jpeg(*options, picture=picture)
    assert whole.endswith(END)
    assert np.array_equal(decode_image(whole[:-2] + padding), decode_image(whole))
    frame = parse_compressed_image(compressed_cdr(whole[:-2] + padding))
    assert np.array_equal(rgb(frame)[..., ::-1], decode_image(whole))


@pytest.mark.parametrize(
    (
        'padding',
        'unseen',
    ),  # bytes of the last of 12 blocks: zeros, and an end marker within it, may complete it
    [(b'', 1), (b'\xff' * 99, 1), (bytes(510), 310), (END, 310)],
)
@pytest.mark.parametrize('options', [(), (cv2.IMWRITE_JPEG_RST_INTERVAL, 4)])
def test_a_jpeg_cut_in_its_pixels_is_refused_whatever_follows(options, padding, unseen):
    content = jpeg(*options)
    first = content.index(b'\xff\xda') + 14
    for end in range(first, len(content) - 2 - unseen, 3):
        assert reason(decode_image, content[:end] + padding) == 'truncated', end


def test_a_jpeg_cut_in_its_header_or_between_its_scans_is_refused():
    content = jpeg(cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    for end in range(4, len(content) - 2, 11):
        assert reason(decode_image, content[:end]) == 'truncated', end
    for end in range(4, jpeg().index(b'\xff\xda') + 14):
        assert reason(decode_image, jpeg()[:end]) == 'truncated', end


def test_a_picture_that_is_grey_at_its_corner_is_whole():
    for grey in (np.full((48, 64, 3), 128, np.uint8), np.full((48, 64), 128, np.uint8)):
        assert (decode_image(jpeg(picture=grey)) == 128).all()
        assert (decode_image(jpeg(picture=grey)[:-2]) == 128).all()


@pytest.mark.parametrize('suffix', ['.webp', '.bmp', '.ppm', '.jp2'])
def test_a_message_holds_what_image_transport_writes_and_a_file_what_opencv_reads(suffix):
    content = cv2.imencode(suffix, NOISE)[1].tobytes()
    assert decode_image(content).shape == NOISE.shape
    assert reason(parse_compressed_image, compressed_cdr(content)) == 'decode'


@pytest.mark.parametrize('odd', [False, True])
@pytest.mark.parametrize('lossless', [False, True])
@pytest.mark.parametrize('prefix', [b'', b'Exif\0\0'])
def test_a_webp_is_turned_as_its_exif_says_in_either_form(prefix, lossless, odd):
    exif = Image.Exif()
    exif[274] = 6  # orientation: to be turned clockwise
    file = io.BytesIO()
    Image.fromarray(NOISE).save(file, 'webp', lossless=lossless, quality=100, exif=exif.tobytes())
    written = prefix + exif.tobytes().removeprefix(b'Exif\0\0') + bytes(odd)
    chunk = b'EXIF' + struct.pack('<I', len(written)) + written + bytes(len(written) % 2)
    content = file.getvalue()[8:].partition(b'EXIF')[0] + chunk
    content = b'RIFF' + struct.pack('<I', len(content)) + content
    image = decode_image(content)
    assert image.shape == (64, 48, 3)
    if lossless:
        assert np.array_equal(image[..., ::-1], np.rot90(NOISE, -1))
    for end in range(0, len(content) - 1, 97):
        assert reason(decode_image, content[:end]) in ('truncated', 'decode')


@pytest.mark.parametrize('suffix', ['.png', '.tiff'])
@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize('mosaic', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_a_compressed_mosaic_is_converted_to_its_colours(suffix, bits, mosaic):
    color = {'r': 200, 'g': 100, 'b': 30}
    tile = np.array([color[letter] for letter in mosaic], np.uint8).reshape(2, 2)
    raw = np.tile(tile, (8, 8)) if bits == 8 else np.tile(tile, (8, 8)).astype(np.uint16) * 257
    written = f'bayer_{mosaic}{bits}; {suffix[1:]} compressed '
    frame = parse_compressed_image(compressed_cdr(cv2.imencode(suffix, raw)[1].tobytes(), written))
    assert frame.encoding == f'bayer_{mosaic}{bits}'
    assert (rgb(frame) == (200, 100, 30)).all()


def test_a_mosaic_that_became_grey_before_it_was_compressed_stays_grey():
    content = jpeg(picture=NOISE[..., 0])
    frame = parse_compressed_image(compressed_cdr(content, 'bayer_rggb8; jpeg compressed mono8'))
    assert np.array_equal(rgb(frame)[..., ::-1], decode_image(content))


@pytest.mark.parametrize(('encoding', 'stored'), [('bgr8', RED), ('rgb8', RED[..., ::-1]), ('8UC3', RED)])
def test_a_tiff_holds_the_channels_in_the_order_of_the_camera(encoding, stored):
    content = cv2.imencode('.tiff', stored)[1].tobytes()
    frame = parse_compressed_image(compressed_cdr(content, f'{encoding}; tiff compressed '))
    assert np.array_equal(rgb(frame), RED[..., ::-1])


def test_a_driver_that_sends_colours_by_the_name_of_a_mosaic_is_believed_by_its_image():
    content = cv2.imencode('.png', RED)[1].tobytes()
    frame = parse_compressed_image(compressed_cdr(content, 'bayer_rggb8; png compressed '))
    assert np.array_equal(rgb(frame), RED[..., ::-1])


@pytest.mark.parametrize(
    'written', ['mono8; png compressed ', 'mono8; png compressed mono8', 'png', '8UC1; png']
)
def test_a_grey_png_keeps_its_values_as_class_ids(written):
    ids = NOISE[..., 0]
    frame = parse_compressed_image(compressed_cdr(cv2.imencode('.png', ids)[1].tobytes(), written))
    assert (frame.encoding, frame.step) == ('mono8', 64)
    assert np.array_equal(frame.data.reshape(ids.shape), ids)
    assert np.array_equal(rgb(frame), np.repeat(ids[..., None], 3, axis=2))


def test_sixteen_bits_of_grey_are_scaled_and_floats_are_refused():
    deep = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 21
    frame = parse_compressed_image(compressed_cdr(cv2.imencode('.png', deep)[1].tobytes(), 'mono16; png '))
    assert frame.encoding == 'mono16'
    assert np.array_equal(rgb(frame)[..., 0], np.rint(deep * (255 / 65535)).astype(np.uint8))
    floats = cv2.imencode('.tiff', deep.astype(np.float32))[1].tobytes()
    assert reason(parse_compressed_image, compressed_cdr(floats, '32FC1; tiff compressed ')) == 'encoding'


def with_segment(content, kind, body):
    """The JPEG with an application segment behind its first marker."""
    return content[:2] + bytes([0xFF, kind]) + (len(body) + 2).to_bytes(2, 'big') + body + content[2:]


@pytest.mark.parametrize(
    'written', ['rgb8; jpeg compressed ', 'bgr8; jpeg compressed ', 'rgb8; jpeg compressed']
)
def test_a_jpeg_of_another_encoder_than_opencv_has_true_colours(written):
    ours = jpeg(picture=RED)
    without = ours[:2] + ours[ours.index(b'\xff\xdb') :]  # as most cameras send it: no JFIF
    exif = with_segment(ours, 0xE1, b'Exif\0\0II*\0\x08\0\0\0\0\0')
    avi = with_segment(without, 0xE0, b'AVI1' + bytes(10))
    for content in (without, exif, avi):
        frame = parse_compressed_image(compressed_cdr(content, written))
        assert np.abs(rgb(frame)[..., ::-1].astype(int) - RED).max() <= 3
    swapped = parse_compressed_image(compressed_cdr(ours, written))  # channels as they came, by cv::imencode
    assert np.abs(rgb(swapped).astype(int) - RED).max() <= 3


NO_MEMORY = """
import resource, sys
from lw_refinenet_ros.image.compressed import decode_image
content = sys.stdin.buffer.read()
decode_image(content)
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (16 << 20),) * 2)
try:
    decode_image(content)
except ValueError as error:
    print(error.reason, error)
"""


def test_out_of_memory_is_called_that():
    content = cv2.imencode('.png', np.zeros((4000, 6000), np.uint8))[1].tobytes()
    found = subprocess.run([sys.executable, '-c', NO_MEMORY], input=content, capture_output=True, check=True)
    assert found.stdout.startswith(b'memory out of memory for the pixels of an image of'), found.stderr


def test_a_frame_error_has_one_line():
    with pytest.raises(FrameError, match='are none of jpeg, png, tiff') as refused:
        parse_compressed_image(compressed_cdr(b'\n\r\x1b[31m' * 9))
    assert str(refused.value).isprintable()
