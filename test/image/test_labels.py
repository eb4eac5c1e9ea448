# SPDX-License-Identifier: Apache-2.0
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lw_refinenet_ros.image.label_png import (
    fault_of_predictions,
    foreign_color,
    prediction_of,
    read_label_png,
    write_label_png,
)
from lw_refinenet_ros.image.painting import paint_label, paint_mask, paint_overlay
from lw_refinenet_ros.labels import UNLABELLED, LabelSet
from test.support import ROOT

CAMVID = ROOT / 'config' / 'labels' / 'camvid.yaml'
SMALL = LabelSet('small', ('road', 'sky', 'car'), ((128, 64, 128), (70, 130, 180), (0, 0, 142)))
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (23, 31, 3), dtype=np.uint8)
LABEL = RNG.integers(0, 3, (23, 31), dtype=np.uint8)
LABEL[:3], LABEL[3:5] = UNLABELLED, 77


def test_the_camvid_file_has_its_eleven_classes():
    labels = LabelSet.from_yaml(CAMVID)
    assert labels.name == 'camvid'
    assert labels.names == (
        *('sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign', 'fence', 'car'),
        *('pedestrian', 'bicyclist'),
    )
    assert labels.colors[3] == (128, 64, 128)
    shared = ROOT.parent / 'shared/camvid/classes.yaml'
    if shared.exists():
        assert labels == LabelSet.from_yaml(shared)


def test_a_label_set_survives_dict_and_yaml(tmp_path):
    assert LabelSet.from_dict(SMALL.to_dict()) == SMALL
    path = tmp_path / 'classes.yaml'
    path.write_text(yaml.safe_dump(SMALL.to_dict()))
    assert LabelSet.from_yaml(path) == SMALL


@pytest.mark.parametrize(
    ('names', 'colors', 'text'),
    [
        ((), (), '0 classes: it needs 1 to 255'),
        (tuple(map(str, range(256))), ((0, 0, 0),) * 256, '256 classes'),
        (('a', 'b'), ((0, 0, 0),), '2 names but 1 colours'),
        (('a', 'a'), ((0, 0, 0),) * 2, "'a' more than once"),
        (('a', ''), ((0, 0, 0),) * 2, "name ''.*1 to 100 printable"),
        (('a', 3), ((0, 0, 0),) * 2, 'name.*of type int: write text'),
        (('a', [[1, 2, 3]] * 999), ((0, 0, 0),) * 2, 'name.*of type list: write text'),
        (('a',), ((0, 0, 256),), "class 'a'.*0 to 255"),
        (('a',), ((0, -1, 0),), '0 to 255'),
        (('a',), ((0, 0),), 'three integers'),
        (('a',), ((0, 0, 1.5),), 'three integers'),
    ],
)
def test_a_wrong_label_set_is_refused(names, colors, text):
    with pytest.raises(ValueError, match=text):
        LabelSet('x', names, colors)


@pytest.mark.parametrize(
    'content',
    [
        '',
        '[]',
        'classes: 5',
        'classes: []',
        'name: x\nclasses: [sky]',
        'name: x\nclasses: [{name: sky}]',
        'name: x\nclasses: [{name: sky, color: red}]',
        'name: x\nignore: 0\nclasses: [{name: sky, color: [1, 2, 3]}]',
        'classes: [{name: sky, color: [1, 2, 3]}]',
        'name: x\nclasses: [{name: [sky], color: [1, 2, 3]}]',
        '{unclosed',
        '!!python/object/apply:os.getcwd []',
        '[' * 2000,
    ],
)
def test_a_wrong_yaml_file_is_refused_by_name(tmp_path, content):
    path = tmp_path / 'classes.yaml'
    path.write_text(content)
    with pytest.raises(ValueError, match=r'classes\.yaml'):
        LabelSet.from_yaml(path)


@pytest.mark.parametrize('value', [255, 'unlabelled', 'unlabeled', '__ignore__'])
def test_the_ids_that_files_name(value):
    assert SMALL.id_of('car') == SMALL.names.index('car')
    assert SMALL.id_of(value) == UNLABELLED
    assert SMALL.id_of('cart') is None
    assert SMALL.id_of(['car']) is None
    named = LabelSet('named', ('unlabeled',), ((0, 0, 0),))
    assert named.id_of('unlabeled') == 0


def test_the_palette_is_black_where_there_is_no_class():
    assert SMALL.palette.shape == (256, 3)
    assert tuple(SMALL.palette[1]) == (70, 130, 180)
    assert not SMALL.palette[3:].any()
    assert SMALL.palette is SMALL.palette


def test_color_is_the_palette_of_every_pixel():
    assert np.array_equal(paint_label(LABEL, SMALL), SMALL.palette[LABEL])
    assert np.array_equal(paint_label(LABEL[:, ::2], SMALL), SMALL.palette[LABEL[:, ::2]])


def blend(image, label, alpha, painted):
    mixed = (1 - alpha) * image.astype(float) + alpha * SMALL.palette[label]
    return np.where(np.isin(label, painted)[..., None], mixed, image)


@pytest.mark.parametrize('alpha', [0, 0.25, 0.5, 0.77, 1])
@pytest.mark.parametrize(
    ('classes', 'painted'),
    [(None, [0, 1, 2]), (['car', 'road'], [2, 0]), (['road', 'sky'], [0, 1]), ([], [])],
)
@pytest.mark.parametrize('label', [LABEL, LABEL % 3], ids=['unlabelled', 'all labelled'])
def test_overlay_blends_painted_classes_and_keeps_the_rest(label, alpha, classes, painted):
    result = paint_overlay(IMAGE, label, SMALL, alpha, classes)
    assert np.abs(result - blend(IMAGE, label, alpha, painted)).max() <= 1
    kept = ~np.isin(label, painted)
    assert np.array_equal(result[kept], IMAGE[kept])


def test_overlay_takes_bgr_and_views_of_any_strides():
    expected = paint_overlay(IMAGE, LABEL, SMALL, 0.5)
    assert np.array_equal(paint_overlay(IMAGE[..., ::-1], LABEL, SMALL, 0.5, order='bgr'), expected)
    bgr = np.ascontiguousarray(IMAGE[..., ::-1])  # as a camera sends it
    assert np.array_equal(paint_overlay(bgr, LABEL, SMALL, 0.5, order='bgr'), expected)
    with_alpha = np.dstack([IMAGE, IMAGE[..., :1]])
    assert np.array_equal(paint_overlay(with_alpha[..., :3], LABEL, SMALL, 0.5), expected)
    wide = np.zeros((23, 40, 3), np.uint8)
    wide[:, :31] = IMAGE
    wide.setflags(write=False)
    assert np.array_equal(paint_overlay(wide[:, :31], LABEL, SMALL, 0.5), expected)


def test_the_mask_is_255_for_the_named_classes_and_the_unlabelled_if_named():
    out = np.empty_like(LABEL)
    assert paint_mask(LABEL, SMALL, [], out) is out
    assert not out.any()
    assert np.array_equal(paint_mask(LABEL, SMALL, ['car']), np.where(LABEL == 2, 255, 0))
    with pytest.raises(ValueError, match="no class 'bus'"):
        paint_mask(LABEL, SMALL, ['bus'])
    with pytest.raises(ValueError, match='C-contiguous'):
        paint_mask(LABEL, SMALL, ['car'], np.empty((23, 62), np.uint8)[:, ::2])
    unlabelled = paint_mask(LABEL, SMALL, ['road', 'unlabelled'])
    assert np.array_equal(unlabelled, np.where(np.isin(LABEL, [0, 255]), 255, 0))


def test_out_is_what_is_returned():
    out = np.empty_like(IMAGE)
    assert paint_label(LABEL, SMALL, out) is out
    assert np.array_equal(out, SMALL.palette[LABEL])
    assert paint_overlay(IMAGE, LABEL, SMALL, 0.5, out=out) is out
    assert np.array_equal(out, paint_overlay(IMAGE, LABEL, SMALL, 0.5))


@pytest.mark.parametrize('out', [np.empty((23, 30, 3), np.uint8), np.empty((23, 31, 3)), IMAGE[..., ::-1]])
def test_an_out_that_does_not_fit_is_refused(out):
    with pytest.raises(ValueError, match='out'):
        paint_label(LABEL, SMALL, out)


@pytest.mark.parametrize('alpha', [-0.1, 1.1, float('nan')])
def test_alpha_outside_zero_to_one_is_refused(alpha):
    with pytest.raises(ValueError, match='from 0 to 1'):
        paint_overlay(IMAGE, LABEL, SMALL, alpha)


def test_wrong_classes_and_arrays_are_refused():
    with pytest.raises(ValueError, match="no class 'bus': small has road, sky, car"):
        paint_overlay(IMAGE, LABEL, SMALL, 0.5, ['bus'])
    with pytest.raises(ValueError, match='image is'):
        paint_overlay(IMAGE[1:], LABEL, SMALL)
    with pytest.raises(ValueError, match='label is int64'):
        paint_label(LABEL.astype(np.int64), SMALL)
    with pytest.raises(ValueError, match='label is'):
        paint_label(IMAGE, SMALL)


def png(values, depth, color_type, extra=b''):
    """A PNG of any depth, written by hand: 0 greyscale, 3 palette."""

    def chunk(kind, body):
        return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))

    height, width = values.shape
    bits = np.unpackbits(values[..., None], axis=2)[..., 8 - depth :].reshape(height, -1)
    rows = b''.join(b'\0' + row.tobytes() for row in np.packbits(bits, axis=1))
    palette = chunk(b'PLTE', SMALL.palette[: 1 << depth].tobytes()) if color_type == 3 else b''
    header = struct.pack('>IIBBBBB', width, height, depth, color_type, 0, 0, 0)
    body = chunk(b'IDAT', zlib.compress(rows))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + palette + extra + body + chunk(b'IEND', b'')


@pytest.mark.parametrize('depth', [1, 2, 4, 8])
@pytest.mark.parametrize('color_type', [0, 3])
def test_label_pngs_of_every_depth_read_as_their_stored_values(tmp_path, depth, color_type):
    values = RNG.integers(0, 1 << depth, (7, 13), dtype=np.uint8)
    path = tmp_path / 'label.png'
    path.write_bytes(png(values, depth, color_type))
    assert np.array_equal(read_label_png(path), values)


def test_a_palette_png_of_pillow_reads_as_indices(tmp_path):
    image = Image.fromarray(LABEL)
    image.putpalette(SMALL.palette.tobytes())
    image.save(tmp_path / 'label.png', transparency=1)
    assert np.array_equal(read_label_png(tmp_path / 'label.png'), LABEL)


def test_only_an_id_that_a_pixel_has_in_the_colour_of_another_class_is_foreign(tmp_path):
    labels = LabelSet('three', ('other', 'car', 'road'), ((0, 0, 0), (0, 0, 142), (128, 64, 128)))
    image = Image.fromarray(np.array([[0, 2]], np.uint8))
    image.putpalette([0, 0, 0, 128, 64, 128, 0, 0, 0])  # black is what tools give to ids without a class
    image.save(tmp_path / 'label.png')
    assert foreign_color(tmp_path / 'label.png', np.array([[0, 2]], np.uint8), labels) is None
    said = foreign_color(tmp_path / 'label.png', np.array([[0, 1]], np.uint8), labels)
    assert said.startswith("id 1 ('car') has the colour of 'road' in the palette")


def test_a_written_label_reads_back_and_replaces_the_old_one(tmp_path):
    path = tmp_path / 'label.png'
    write_label_png(path, LABEL)
    write_label_png(path, LABEL[:, ::2])
    assert np.array_equal(read_label_png(path), LABEL[:, ::2])
    assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), LABEL[:, ::2])
    assert [file.name for file in tmp_path.iterdir()] == ['label.png']


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match='label is'):
        write_label_png(tmp_path / 'label.png', IMAGE)
    with pytest.raises(ValueError, match='no pixels'):
        write_label_png(tmp_path / 'label.png', LABEL[:0])
    (tmp_path / 'folder.png').mkdir()
    with pytest.raises(OSError, match='folder'):
        write_label_png(tmp_path / 'folder.png', LABEL)
    assert [file.name for file in tmp_path.iterdir()] == ['folder.png']


def test_colours_16_bits_damage_and_truncation_are_refused_by_name(tmp_path):
    path = tmp_path / 'label.png'
    for image in (IMAGE, LABEL.astype(np.uint16), np.dstack([IMAGE, LABEL])):
        cv2.imwrite(str(path), image)
        with pytest.raises(ValueError, match=r'label\.png: PNG of colour type \d, \d+ bits: save'):
            read_label_png(path)
    small = LABEL[5:, :9]
    whole = png(small, 2, 3)
    for end in range(len(whole) - 4):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r'label\.png: '):
            read_label_png(path)
    for offset in range(8, len(whole) - 4):
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 0x55]) + whole[offset + 1 :])
        try:
            assert np.array_equal(read_label_png(path), small)  # in the palette, which is not looked at
        except ValueError as error:
            assert 'label.png: ' in str(error)


def test_a_label_png_of_another_kind_of_file_is_refused_at_once(tmp_path):
    path = tmp_path / 'label.png'
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r'label\.png is a pipe'):
        read_label_png(path)
    path.unlink()
    for content in (b'', b'GIF89a', cv2.imencode('.bmp', LABEL)[1].tobytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r'label\.png: not a PNG file'):
            read_label_png(path)


def test_a_label_png_of_several_images_or_too_many_pixels_is_refused(tmp_path):
    path = tmp_path / 'label.png'
    frames = [Image.fromarray(LABEL), Image.fromarray(LABEL[::-1].copy())]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r'label\.png: PNG of several images'):
        read_label_png(path)
    Image.new('1', (1 << 13, 1 << 13)).save(path)
    assert path.stat().st_size < 1 << 17
    with pytest.raises(ValueError, match=r'label\.png: 8192x8192 pixels are more than'):
        read_label_png(path)
    path.write_bytes(png(LABEL, 8, 0, extra=b'\0\0\0\0tEXt\0\0\0\0'))
    with pytest.raises(ValueError, match=r'label\.png: damaged or truncated PNG'):
        read_label_png(path)


@pytest.mark.parametrize('labels', [None, SMALL])
@pytest.mark.parametrize('of', ['camvid', 'Straße \N{SNOWMAN}', 'x' * 100, '', '1234567890'])
def test_a_prediction_is_marked_and_still_the_same_label(tmp_path, labels, of):
    label, path = np.minimum(LABEL, 2), tmp_path / 'mask.png'
    write_label_png(path, label, labels)
    assert prediction_of(path) is None
    write_label_png(path, label, labels, predicted=of)
    assert prediction_of(path) == of[:80].replace('\N{SNOWMAN}', '?')
    np.testing.assert_array_equal(read_label_png(path), label)
    np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape[:2], label.shape)
    with Image.open(path) as image:
        image.verify()


def test_a_mask_that_was_saved_again_is_no_prediction_even_where_its_texts_were_kept(tmp_path):
    path = tmp_path / 'mask.png'
    write_label_png(path, LABEL, predicted='camvid')
    image = Image.open(path)
    texts = PngInfo()
    texts.add_text('Source', image.text['Source'])
    corrected = np.array(image)
    corrected[5:15, 5:15] = 1
    Image.fromarray(corrected).save(path, pnginfo=texts)
    assert b'lw_refinenet_ros prediction' in path.read_bytes()
    assert prediction_of(path) is None


def test_a_mask_that_was_corrected_by_one_pixel_is_no_prediction_even_if_its_size_stays(tmp_path):
    path, uniform = tmp_path / 'mask.png', np.zeros((40, 40), np.uint8)
    uniform[20, 20] = 1
    write_label_png(path, uniform, predicted='camvid')
    image = Image.open(path)
    texts = PngInfo()
    texts.add_text('Source', image.text['Source'])
    size, corrected = path.stat().st_size, np.array(image)
    for value, predicted in ((1, 'camvid'), (2, None)):
        corrected[20, 20] = value
        Image.fromarray(corrected).save(path, pnginfo=texts, compress_type=zlib.Z_RLE)
        assert path.stat().st_size == size
        assert prediction_of(path) == predicted


def test_what_is_no_png_at_all_is_no_prediction(tmp_path):
    path = tmp_path / 'mask.png'
    write_label_png(path, LABEL, predicted='camvid')
    content = path.read_bytes()
    (tmp_path / 'folder.png').mkdir()
    os.mkfifo(tmp_path / 'pipe.png')
    (tmp_path / 'loop.png').symlink_to('loop.png')
    for name in ('folder.png', 'pipe.png', 'loop.png', 'missing.png'):
        assert prediction_of(tmp_path / name) is None
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert prediction_of(path) is None
    for seed in range(200):
        damaged = bytearray(content)
        damaged[np.random.default_rng(seed).integers(len(content))] ^= 0xFF
        path.write_bytes(damaged)
        prediction_of(path)


def test_predictions_are_counted(tmp_path):
    masks = [tmp_path / f'{index}.png' for index in range(3)]
    for index, mask in enumerate(masks):
        write_label_png(mask, LABEL, predicted='camvid' if index else None)
    assert fault_of_predictions(masks[:1]) == fault_of_predictions([]) == ''
    assert fault_of_predictions(masks).startswith('2 of 3 masks are predictions of a network itself, not ')
    assert fault_of_predictions(masks[:2]).startswith('1 of 2 masks is a prediction of ')
    assert fault_of_predictions(masks[1:2]).startswith('1 of 1 mask is a prediction of ')
