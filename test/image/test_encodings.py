# SPDX-License-Identifier: Apache-2.0
import sys

import cv2
import numpy as np
import pytest

from lw_refinenet_ros.image import encodings
from lw_refinenet_ros.image.encodings import ENCODINGS, ColorImage, color_image, rgb, to_rgb
from lw_refinenet_ros.image.frame import Frame, FrameError

HEIGHT, WIDTH = 6, 8
RNG = np.random.default_rng(0)
BAYER = {  # cv_bridge's table
    'rggb': cv2.COLOR_BayerBG2BGR,
    'bggr': cv2.COLOR_BayerRG2BGR,
    'gbrg': cv2.COLOR_BayerGR2BGR,
    'grbg': cv2.COLOR_BayerGB2BGR,
}


def padded(rows, step):
    """The rows in a buffer of this step, whose padding is 99."""
    data = np.full((len(rows), step), 99, np.uint8)
    data[:, : rows.shape[1]] = rows
    return data.reshape(-1)


def frame(rows, encoding, padding=0, **changes):
    step = rows.shape[1] + padding
    fields = {'height': HEIGHT, 'width': WIDTH, 'step': step, 'data': padded(rows, step), **changes}
    return Frame(stamp_ns=1, frame_id='c', encoding=encoding, **fields)


def noise(channels, rows=HEIGHT):
    return RNG.integers(0, 256, (rows, WIDTH * channels), dtype=np.uint8)


@pytest.mark.parametrize('padding', [0, 1, 5, 64])
@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', '8UC3', 'rgba8', 'bgra8', '8UC4'])
def test_colours_are_a_view_of_the_bytes_with_any_step(encoding, padding):
    rows = noise(ENCODINGS[encoding].channels)
    message = frame(rows, encoding, padding)
    message.data.setflags(write=False)
    array, order = color_image(message)
    assert np.shares_memory(array, message.data)
    assert order == ('rgb' if encoding.startswith('rgb') else 'bgr')
    expected = rows.reshape(HEIGHT, WIDTH, -1)[..., :3]
    assert np.array_equal(array, expected)
    contiguous = rgb(message)
    assert contiguous.flags.c_contiguous
    assert np.array_equal(contiguous, expected if order == 'rgb' else expected[..., ::-1])


def rows_of(encoding):
    entry = ENCODINGS[encoding]
    return noise(entry.channels * entry.depth // 8, HEIGHT * entry.planes[0] // entry.planes[1])


def reference(rows, encoding):
    if encoding.endswith('16'):  # as cv_bridge does: converted as they are, then scaled
        words = rows.view('<u2').reshape(HEIGHT, WIDTH, -1)
        if encoding.startswith('mono'):
            words = np.repeat(words, 3, axis=2)
        elif encoding.startswith('bayer'):
            words = cv2.cvtColor(words, BAYER[encoding[6:10]])[..., ::-1]
        elif encoding.startswith('bgr'):
            words = words[..., 2::-1]
        return np.rint(words[..., :3] * (255 / 65535)).astype(np.uint8)
    if encoding == 'nv24':  # NV12 of twice the size has a colour for each of its pixels
        bright = rows[:HEIGHT].repeat(2, axis=0).repeat(2, axis=1)
        large = np.vstack([bright, rows[HEIGHT:].reshape(HEIGHT, 2 * WIDTH)])
        return cv2.cvtColor(large, cv2.COLOR_YUV2RGB_NV12)[::2, ::2]
    if encoding in ('mono8', '8UC1'):
        return np.repeat(rows[..., None], 3, axis=2)
    if encoding in ('yuv422', 'uyvy'):
        return cv2.cvtColor(rows.reshape(HEIGHT, WIDTH, 2), cv2.COLOR_YUV2RGB_UYVY)
    if encoding in ('yuv422_yuy2', 'yuyv'):
        return cv2.cvtColor(rows.reshape(HEIGHT, WIDTH, 2), cv2.COLOR_YUV2RGB_YUYV)
    if encoding.startswith('nv'):
        return cv2.cvtColor(rows, getattr(cv2, f'COLOR_YUV2RGB_{encoding.upper()}'))
    return cv2.cvtColor(rows, BAYER[encoding[6:10]])[..., ::-1]


@pytest.mark.parametrize('padding', [0, 1, 2, 64])
@pytest.mark.parametrize(
    'encoding',
    [name for name, entry in ENCODINGS.items() if entry.conversion is not None or entry.depth == 16],
)
def test_a_converted_encoding_with_padded_rows_equals_the_tight_reference(encoding, padding):
    rows = rows_of(encoding)
    message = frame(rows, encoding, padding)
    if encoding == 'nv24':  # a row of its colours is two rows of bytes, and one row of padding
        bright, colors = rows[:HEIGHT], rows[HEIGHT:].reshape(HEIGHT, 2 * WIDTH)
        parts = padded(bright, WIDTH + padding), padded(colors, 2 * (WIDTH + padding))
        message = frame(rows, encoding, padding, data=np.concatenate(parts))
    message.data.setflags(write=False)
    array = rgb(message)
    assert array.shape == (HEIGHT, WIDTH, 3)
    assert np.array_equal(array, reference(rows, encoding))


@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize('mosaic', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_a_mosaic_of_one_colour_gives_that_colour(mosaic, bits):
    color = {'r': 200, 'g': 100, 'b': 30}
    tile = np.array([color[letter] for letter in mosaic], np.uint8).reshape(2, 2)
    rows = np.tile(tile, (HEIGHT // 2, WIDTH // 2))
    if bits == 16:
        rows = (rows.astype('<u2') * 257).view(np.uint8)
    array = rgb(frame(rows, f'bayer_{mosaic}{bits}', 3))
    assert (array == (200, 100, 30)).all()


@pytest.mark.parametrize(('encoding', 'sample'), [('uyvy', (90, 81, 240, 81)), ('yuyv', (81, 90, 81, 240))])
def test_packed_red_is_red(encoding, sample):
    array = rgb(frame(np.tile(np.array(sample, np.uint8), (HEIGHT, WIDTH // 2)), encoding))
    assert np.abs(array.astype(int) - (254, 0, 0)).max() <= 3


@pytest.mark.parametrize('encoding', ['rgb16', 'bgr16', 'rgba16', 'bgra16'])
def test_sixteen_bits_keep_the_order_of_their_channels_in_both_byte_orders(encoding):
    values = RNG.integers(0, 65536, (HEIGHT, WIDTH, 4 if 'a' in encoding else 3), dtype=np.uint16)
    colors = values[..., 2::-1] if encoding.startswith('bgr') else values[..., :3]
    for bigendian in (False, True):
        rows = values.astype('>u2' if bigendian else '<u2').reshape(HEIGHT, -1).view(np.uint8)
        array = rgb(frame(rows, encoding, 3, is_bigendian=bigendian))
        assert np.array_equal(array, np.rint(colors * (255 / 65535)).astype(np.uint8))


@pytest.mark.parametrize('bigendian', [False, True])
@pytest.mark.parametrize('padding', [0, 1, 6])
def test_mono16_is_scaled_to_eight_bits_in_its_own_byte_order(bigendian, padding):
    values = RNG.integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16)
    values[0, :2] = 0, 65535
    rows = values.astype('>u2' if bigendian else '<u2').view(np.uint8)
    array = rgb(frame(rows, 'mono16', padding, is_bigendian=bigendian))
    assert np.array_equal(array, np.repeat(np.rint(values * (255 / 65535)).astype(np.uint8)[..., None], 3, 2))


@pytest.fixture
def load_cv_bridge_again():
    encodings._cv_bridge.cache_clear()
    yield
    encodings._cv_bridge.cache_clear()


@pytest.mark.parametrize('padding', [0, 3])
@pytest.mark.parametrize('encoding', [name for name, entry in ENCODINGS.items() if entry.cv_bridge])
def test_cv_bridge_where_it_is_installed_gives_the_colours_that_opencv_gives(encoding, padding, monkeypatch):
    if encodings._cv_bridge() is None:
        pytest.skip('cv_bridge is not installed')
    from cv_bridge import CvBridge

    entry = ENCODINGS[encoding]
    values = np.tile(np.arange(256 * 256, dtype='<u2').reshape(256, 256), entry.channels)  # all there are
    rows = values.view(np.uint8) if entry.depth == 16 else RNG.integers(0, 256, (256, 256), np.uint8)
    size = {'height': 256, 'width': 256 // (1 if entry.depth == 16 else entry.channels)}
    tight = frame(rows, entry.cv_bridge, **size)
    by_cv_bridge = rgb(frame(rows, encoding, padding, **size))
    assert np.array_equal(by_cv_bridge, CvBridge().imgmsg_to_cv2(tight, 'rgb8'))
    monkeypatch.setattr(encodings, '_cv_bridge', lambda: None)
    assert np.array_equal(by_cv_bridge, rgb(frame(rows, encoding, padding, **size)))


@pytest.mark.parametrize(
    ('file', 'content', 'said'),
    [
        ('__init__.py', "raise ImportError('no libboost_python')", 'no libboost_python'),
        ('boost/cv_bridge_boost.so', 'numpy.core._multiarray_umath', 'built for NumPy 1'),
    ],
)
def test_a_cv_bridge_that_does_not_load_is_said_and_opencv_converts(
    load_cv_bridge_again, monkeypatch, tmp_path, file, content, said
):
    broken = tmp_path / 'cv_bridge' / file
    broken.parent.mkdir(parents=True)
    (tmp_path / 'cv_bridge/__init__.py').touch()
    broken.write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(np, '__version__', '2.0.0')
    for module in [name for name in sys.modules if name.split('.')[0] == 'cv_bridge']:
        monkeypatch.delitem(sys.modules, module)
    grey = noise(1)
    with pytest.warns(UserWarning, match=f'cv_bridge does not load .*{said}.*OpenCV converts'):
        assert np.array_equal(rgb(frame(grey, 'mono8')), reference(grey, 'mono8'))


def refused(message):
    with pytest.raises(FrameError) as caught:
        color_image(message)
    return caught.value


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_a_step_below_a_row_and_missing_rows_are_refused(encoding):
    rows = rows_of(encoding)
    assert refused(frame(rows, encoding, step=rows.shape[1] - 1)).reason == 'step'
    assert refused(frame(rows, encoding, step=0)).reason == 'step'
    assert refused(frame(rows, encoding, data=padded(rows, rows.shape[1])[:-1])).reason == 'length'


def test_nv12_needs_its_colour_rows_and_even_sizes():
    assert refused(frame(noise(1), 'nv12')).reason == 'length'
    assert refused(frame(noise(1, 9), 'nv12', height=5)).reason == 'size'
    assert refused(frame(noise(2), 'yuv422', width=7)).reason == 'size'
    assert refused(frame(noise(3), 'rgb8', height=0)).reason == 'size'
    assert refused(frame(noise(3), 'rgb8', height=8192, width=8192)).reason == 'size'


def test_an_unknown_encoding_is_quoted_with_what_is_supported():
    error = refused(frame(noise(3), '32FC1'))
    assert error.reason == 'encoding'
    assert all(text in str(error) for text in ("'32FC1'", 'rgb8', 'bayer_grbg8', 'nv12'))


@pytest.mark.parametrize('order', ['rgb', 'bgr'])
@pytest.mark.parametrize('height', [1, 2, 5])
def test_to_rgb_takes_views_of_any_strides(order, height):
    buffer = RNG.integers(0, 256, (height, 9, 4), dtype=np.uint8)
    views = [
        buffer[..., :3],
        buffer[..., 1:],
        buffer[::-1, :, :3],
        buffer[:, ::-1, 1:],
        buffer[:, ::2, :3],
        buffer[..., 2::-1],
    ]
    for view in views:
        result = to_rgb(ColorImage(view, order))
        assert result.flags.c_contiguous
        assert np.array_equal(result, view if order == 'rgb' else view[..., ::-1])


def test_tight_rgb_is_not_copied():
    message = frame(noise(3), 'rgb8')
    assert np.shares_memory(rgb(message), message.data)
