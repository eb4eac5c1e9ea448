# SPDX-License-Identifier: Apache-2.0
"""What an image says of itself costs time and memory in proportion to its bytes, and is bounded."""

import ast
import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import lw_refinenet_ros
from lw_refinenet_ros.image import header as headers
from lw_refinenet_ros.image.compressed import decode_image
from lw_refinenet_ros.image.frame import FrameError
from lw_refinenet_ros.image.header import MAX_SCANS, MAX_SEGMENTS, read_header
from lw_refinenet_ros.limits import MAX_PIXELS

PICTURE = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
SIDE = 1 << 13  # twice as many pixels as an image may have


def encoded(suffix, *options, picture=PICTURE):
    return cv2.imencode(suffix, picture, options)[1].tobytes()


def by_pillow(kind, mode='RGB', **options):
    file = io.BytesIO()
    Image.fromarray(PICTURE).convert(mode).save(file, kind, **options)
    return file.getvalue()


def tiff(width, height, order='<', big=False, **tiles):
    """A TIFF of a header and one directory, with no pixels."""
    tags = {256: width, 257: height, **({322: tiles['wide'], 323: tiles['high']} if tiles else {})}
    mark = b'II' if order == '<' else b'MM'
    if big:
        entries = [struct.pack(order + 'HHQI4x', tag, 4, 1, value) for tag, value in tags.items()]
        return mark + struct.pack(order + 'HHHQQ', 43, 8, 0, 16, len(entries)) + b''.join(entries) + bytes(8)
    entries = [struct.pack(order + 'HHII', tag, 4, 1, value) for tag, value in tags.items()]
    return mark + struct.pack(order + 'HIH', 42, 8, len(entries)) + b''.join(entries) + bytes(4)


@pytest.mark.parametrize(
    ('kind', 'content'),
    [
        ('jpeg', encoded('.jpg')),
        ('jpeg', encoded('.jpg', cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 1)),
        ('jpeg', by_pillow('JPEG', exif=b'Exif\0\0II*\0\x08\0\0\0\0\0' + bytes(9000))),
        ('jpeg', b'\xff\xd8' + b'\xff' * 999 + encoded('.jpg')[3:]),
        ('png', encoded('.png')),
        ('png', by_pillow('PNG', 'P')),
        ('webp', encoded('.webp', cv2.IMWRITE_WEBP_QUALITY, 50)),
        ('webp', by_pillow('WEBP', lossless=True)),
        ('webp', by_pillow('WEBP', 'RGBA')),
        ('tiff', encoded('.tiff')),
        ('tiff', by_pillow('TIFF', compression='tiff_lzw')),
        ('tiff', tiff(40, 24, '>')),
        ('tiff', tiff(40, 24, '<', big=True)),
        ('tiff', tiff(40, 24, '>', big=True)),
    ],
)
def test_the_size_of_every_format_is_read_from_its_header(kind, content):
    header = read_header(content)
    assert (header.kind, header.height, header.width) == (kind, 24, 40)
    assert header.end is not None
    assert (
        read_header(content + bytes(99))[:5]
        == (header._replace(end=len(content) + 99) if kind == 'tiff' else header)[:5]
    )


def with_size(content, kind, height, width):
    """The content of an image, its size overwritten."""
    data = bytearray(content)
    if kind == 'jpeg':
        struct.pack_into('>HH', data, data.index(b'\xff\xc0') + 5, height, width)
    elif kind == 'png':
        struct.pack_into('>II', data, 16, width, height)
        struct.pack_into('>I', data, 29, zlib.crc32(data[12:29]))
    elif data[12:16] == b'VP8L':
        struct.pack_into('<I', data, 21, width - 1 | height - 1 << 14)
    elif data[12:16] == b'VP8X':
        data[24:30] = (width - 1).to_bytes(3, 'little') + (height - 1).to_bytes(3, 'little')
    else:
        struct.pack_into('<HH', data, 26, width, height)
    return bytes(data)


@pytest.mark.parametrize(
    'content',
    [
        with_size(encoded('.jpg') + bytes(1 << 18), 'jpeg', SIDE, SIDE),
        with_size(encoded('.png'), 'png', SIDE, SIDE),
        with_size(encoded('.png'), 'png', 1, MAX_PIXELS + 1),
        with_size(encoded('.webp', cv2.IMWRITE_WEBP_QUALITY, 50), 'webp', SIDE, SIDE),
        with_size(by_pillow('WEBP', lossless=True), 'webp', SIDE, SIDE),
        with_size(by_pillow('WEBP', 'RGBA'), 'webp', SIDE, SIDE),
        tiff(SIDE, SIDE),
        tiff(SIDE, SIDE, '>'),
        tiff(SIDE, SIDE, '>', big=True),
        tiff(40, 24, wide=SIDE, high=SIDE),
    ],
)
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(content, monkeypatch):
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('decoded'))
    with pytest.raises(FrameError, match=f'pixels are more than the {MAX_PIXELS}') as refused:
        decode_image(content)
    assert refused.value.reason == 'size'


def test_an_entry_that_a_tiff_has_twice_counts_by_its_larger_value():
    tags = ((256, SIDE), (257, SIDE), (256, 40), (257, 24))  # libtiff takes the first of each
    entries = b''.join(struct.pack('<HHII', tag, 4, 1, value) for tag, value in tags)
    with pytest.raises(FrameError, match='pixels are more than'):
        read_header(b'II' + struct.pack('<HIH', 42, 8, len(tags)) + entries + bytes(4))


def test_a_picture_of_one_colour_is_whole_however_few_bytes_it_has():
    dark = np.zeros((1200, 1600), np.uint8)
    one_bit = io.BytesIO()
    Image.fromarray(dark).convert('1').save(one_bit, 'PNG', compress_level=9)
    for content in (encoded('.jpg', cv2.IMWRITE_JPEG_OPTIMIZE, 1, picture=dark), one_bit.getvalue()):
        assert np.array_equal(cv2.cvtColor(decode_image(content), cv2.COLOR_BGR2GRAY), dark)


def segments(count, kind=0xE1):
    return b'\xff\xd8' + (bytes([0xFF, kind]) + b'\0\2') * count


def test_segments_and_scans_are_bounded():
    progressive = encoded('.jpg', cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    assert read_header(progressive).end
    for content in (
        segments(MAX_SCANS + 1, 0xDA) + b'\xff\xd9',
        segments(MAX_SEGMENTS + 1) + b'\xff\xd9',
        encoded('.png')[:-12] + (bytes(4) + b'teXt' + bytes(4)) * MAX_SEGMENTS + encoded('.png')[-12:],
        tiff(40, 24, '<', big=True)[:16] + struct.pack('<Q', 1 << 40) + bytes(20 * (MAX_SEGMENTS + 1)),
    ):
        with pytest.raises(FrameError, match='more than') as refused:
            read_header(content)
        assert refused.value.reason == 'decode'


def hostile(size):
    """Contents of `size` bytes that make a parser repeat itself if it can."""
    heads = (
        b'\xff\xd8',
        b'\x89PNG\r\n\x1a\n',
        b'RIFF\0\0\0\0WEBPVP8X',
        b'II*\0\x08\0\0\0',
        b'MM\0+\0\x08\0\0',
    )
    units = (
        b'\xff',
        b'\xff\0',
        b'\xff\xd0',
        b'\0',
        b'\0\0\0\0IDAT',
        b'\xff\xfe\0\0',
        b'\xff\xd8',
        b'\xff\xff\0',
    )
    return [head + unit * (size // len(unit)) for head in heads for unit in units]


def test_the_work_of_reading_a_header_grows_with_its_bytes_at_most(monkeypatch):
    class Counting:
        """Counts how many bytes of content are searched for markers."""

        def __init__(self, expression):
            self.expression, self.calls, self.searched = expression, 0, 0

        def search(self, content, offset):
            found = self.expression.search(content, offset)
            self.calls += 1
            self.searched += (found.end() if found else len(content)) - min(offset, len(content))
            return found

    expression = headers._JPEG_MARKER
    for size in (1000, 100_000, 1_000_000):
        for content in hostile(size):
            counting = Counting(expression)
            monkeypatch.setattr(headers, '_JPEG_MARKER', counting)
            try:
                read_header(content)
            except FrameError as error:
                assert error.reason in ('size', 'decode')
            assert counting.calls <= MAX_SEGMENTS
            assert counting.searched <= len(content)


FUNCTIONS = {
    f're.{name}' for name in ('compile', 'search', 'match', 'fullmatch', 'split', 'findall', 'finditer')
}
EXPRESSIONS = """
import re, sys
for line in sys.stdin:
    function, pattern = eval(line)
    texts = [c * 300_000 + end for c in 'a0_/. \\xff\\0' for end in ('', '!', '\\n')]
    for text in texts:
        getattr(re, function)(pattern, text.encode('latin-1') if isinstance(pattern, bytes) else text)
"""


def expressions():
    """Every regular expression of the package, and the functions that search with it."""
    for file in Path(lw_refinenet_ros.__file__).parent.rglob('*.py'):
        tree = list(ast.walk(ast.parse(file.read_text())))
        methods = [(ast.unparse(n.value), n.attr) for n in tree if isinstance(n, ast.Attribute)]
        compiled = {id(n.value): ast.unparse(n.targets[0]) for n in tree if isinstance(n, ast.Assign)}
        for node in tree:
            if isinstance(node, ast.Call) and ast.unparse(node.func) in FUNCTIONS:
                name = compiled.get(id(node))
                used = [function for owner, function in methods if owner == name] or [node.func.attr]
                yield from ((function, ast.literal_eval(node.args[0])) for function in used)


def run_expressions(found):
    """Search texts of 300 kB: linear takes milliseconds each, what goes back over its input minutes."""
    lines = ''.join(f'{item!r}\n' for item in found)
    subprocess.run([sys.executable, '-c', EXPRESSIONS], input=lines, text=True, check=True, timeout=60)


def test_no_expression_of_the_package_goes_back_over_its_input():
    found = list(expressions())
    assert ('search', rb'\xff[^\x00\x01\xd0-\xd7\xff]') in found
    run_expressions(found)
