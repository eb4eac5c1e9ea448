# SPDX-License-Identifier: Apache-2.0
"""Masks as other tools write and name them become a folder to train on."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.image.label_png import read_label_png, write_label_png
from lw_refinenet_ros.labels import LabelSet
from lw_refinenet_ros.training.dataset import DataError, find_pairs

LABELS = LabelSet('street', ('background', 'road', 'car'), ((0, 0, 0), (128, 64, 128), (0, 0, 142)))
STRAY_COLORS = (
    '0.png has 1720 pixels of 1, 1, 1 and 2 more colours, of no class: add it to classes.yaml, or map it '
    "with --map FILE ('1, 1, 1': CLASS or 255; others: 255 for all the rest)"
)
LABEL_IDS = np.array([23, 7, 26], np.uint8)  # Cityscapes' sky, road and car


def mask_of(index: int) -> np.ndarray:
    """A car on a road, 48x64, elsewhere in every picture."""
    mask = np.zeros((48, 64), np.uint8)
    mask[30:] = 1
    mask[20:36, 5 + index : 25 + index] = 2
    return mask


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def convert(tmp_path, monkeypatch, capsys):
    """Run the command in a folder with classes.yaml; return its status and what it said."""
    monkeypatch.chdir(tmp_path)
    Path('classes.yaml').write_text(yaml.safe_dump(LABELS.to_dict()))

    def run(masks, images, *options, rules=''):
        Path('map.yaml').write_text(rules)
        given = [
            '--from-masks',
            masks,
            '--images',
            images,
            '--classes',
            'classes.yaml',
            '--output',
            'new/data',
        ]
        status = main(['label', *given, *(['--map', 'map.yaml'] if rules else []), *options])
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


def written(*names: str) -> list[np.ndarray]:
    """The masks of the output, which are those of these names."""
    pairs = find_pairs(Path('new/data'))
    assert [path.stem for path in pairs.images] == [path.stem for path in pairs.masks] == list(names)
    assert pairs.labels == LABELS
    return [read_label_png(path) for path in pairs.masks]


def test_colour_masks_of_cvat_take_the_ids_of_their_colours(convert):
    for index in range(2):
        save(Path(f'JPEGImages/{index}.jpg'), np.full((48, 64, 3), 90, np.uint8))
        save(Path(f'SegmentationClass/{index}.png'), LABELS.palette[mask_of(index)])
    save(Path('JPEGImages/7.jpg'), np.zeros((48, 64, 3), np.uint8))
    status, said = convert('SegmentationClass', 'JPEGImages')
    assert status == 0, said
    assert 'new/data: 2 masks of 3 classes' in said
    assert 'left out, images without a mask: 1: 7\n' in said
    np.testing.assert_array_equal(written('0', '1'), [mask_of(0), mask_of(1)])


@pytest.fixture
def cityscapes(tmp_path):
    """Two cities, with all kinds of masks beside each other."""
    for index, city in enumerate(('aachen', 'bonn')):
        name, mask = f'{city}_00000{index}', mask_of(index)
        rgba = np.dstack([LABELS.palette[mask], np.full_like(mask, 255)])
        save(tmp_path / f'leftImg8bit/train/{city}/{name}_leftImg8bit.png', np.zeros((48, 64, 3), np.uint8))
        for kind, pixels in (
            ('color', rgba),
            ('labelIds', LABEL_IDS[mask]),
            ('instanceIds', LABEL_IDS[mask].astype(np.uint16) * 1000),
        ):
            save(tmp_path / f'gtFine/train/{city}/{name}_gtFine_{kind}.png', pixels)
    return 'gtFine/train', 'leftImg8bit/train'


@pytest.mark.parametrize(
    ('ending', 'rules', 'sky'),
    [
        ('_gtFine_color', '', 0),
        ('_gtFine_labelIds', '23: background\n7: road\n26: car\n', 0),
        ('_gtFine_labelIds', '7: road\n26: car\nothers: 255\n', 255),
        ('_gtFine_color', "'0,0,0': unlabelled\n", 255),
    ],
)
def test_cityscapes_is_read_from_the_folders_of_its_cities(convert, cityscapes, ending, rules, sky):
    status, said = convert(*cityscapes, '--mask-ending', ending, rules=rules)
    assert status == 0, said
    expected = [np.where(mask_of(index) == 0, sky, mask_of(index)) for index in range(2)]
    np.testing.assert_array_equal(written('aachen_000000', 'bonn_000001'), expected)


def test_several_kinds_of_masks_are_not_guessed_between(convert, cityscapes):
    status, said = convert(*cityscapes)
    assert status == 1
    assert 'aachen_000000_gtFine_color.png, ' in said
    assert 'aachen_000000_gtFine_labelIds.png (and 1 more) have one name: choose one kind' in said
    assert not Path('new').exists()


def test_masks_beside_their_images_are_told_by_their_ending(convert):
    save(Path('train/a_jpg.rf.1.png'), np.zeros((48, 64, 3), np.uint8))
    save(Path('train/a_jpg.rf.1_mask.png'), mask_of(0))
    status, said = convert('train', 'train')
    assert status == 0, said
    np.testing.assert_array_equal(written('a_jpg.rf.1'), [mask_of(0)])


@pytest.mark.parametrize(
    ('image', 'mask', 'others', 'names', 'expected'),
    [
        ('rgb_000{}', 'semantic_segmentation_000{}', 'depth_000{}', 'rgb_*=semantic_segmentation_*', '000{}'),
        ('rgb_0000{}', 'classgt_0000{}', 'depth_0000{}', 'rgb_*=classgt_*', '0000{}'),
        ('um_00000{}', 'um_road_00000{}', 'uu_lane_00000{}', 'um_*=um_road_*', '00000{}'),
        ('a/camera_front_{}', 'a/label_front_{}', 'a/lidar_{}', 'camera_*=label_*', 'front_{}'),
        ('iter_{}/rgb', 'iter_{}/labels', 'iter_{}/depth', '*/rgb=*/labels', 'iter_{}'),
        ('{}/a/rgb', 'segm_gt/{}', '{}/depth', '*/a/rgb=segm_gt/*', '{}'),
    ],
)
def test_names_of_images_and_masks_in_one_folder(convert, image, mask, others, names, expected):
    for index in range(2):
        save(Path(f'all/{image.format(index)}.png'), np.zeros((48, 64, 3), np.uint8))
        save(Path(f'all/{mask.format(index)}.png'), mask_of(index))
        save(Path(f'all/{others.format(index)}.png'), np.zeros((4, 4), np.uint16))
    status, said = convert('all', 'all', '--names', names)
    assert status == 0, said
    others = [others.format(index) for index in range(2)]
    assert f'left out, called otherwise: 2: {", ".join(others)}\n' in said
    np.testing.assert_array_equal(written(*map(expected.format, range(2))), [mask_of(0), mask_of(1)])


@pytest.mark.parametrize(
    ('images', 'masks', 'proposed'),
    [
        ('rgb_000{}', 'semantic_000{}', 'rgb_*=semantic_*'),
        ('x/2018{}_camera_front_9', 'y/2018{}_label_front_9', '*_camera_front_9=*_label_front_9'),
        ('iter_{}/rgb', 'iter_{}/labels', '*/rgb=*/labels'),
        ('{}_left', '{}_right', '*_left=*_right'),
        ('left1{}', 'right1{}', 'left*=right*'),
    ],
)
@pytest.mark.parametrize('folders', [('images', 'masks'), ('all', 'all')])
def test_names_are_proposed_that_pair_the_files(convert, images, masks, proposed, folders):
    for index in range(3):
        save(Path(f'{folders[0]}/{images.format(index)}.jpg'), np.zeros((48, 64, 3), np.uint8))
        save(Path(f'{folders[1]}/{masks.format(index)}.png'), mask_of(index))
    status, said = convert(*folders[::-1])
    assert status == 1
    assert f"try --names '{proposed}'\n" in said
    assert convert(*folders[::-1], '--names', proposed)[0] == 0


def test_names_that_share_nothing_are_only_shown(convert):
    for folder in ('images', 'masks'):
        save(Path(f'{folder}/{folder}.png'), mask_of(0))
    said = convert('masks', 'images')[1]
    assert "images (images) has a mask of its name in masks (masks): --names 'IMAGE=MASK' says how" in said


def test_goose_is_read_without_names(convert):
    save(Path('images/val/flight/a__0071_16_windshield_vis.png'), np.zeros((48, 64, 3), np.uint8))
    for kind, mask in (('labelids', mask_of(0)), ('instanceids', mask_of(1)), ('color', mask_of(1))):
        save(Path(f'labels/val/flight/a__0071_16_{kind}.png'), mask)
    status, said = convert('labels', 'images')
    assert status == 0, said
    np.testing.assert_array_equal(written('a__0071_16'), [mask_of(0)])


@pytest.mark.parametrize('names', ['rgb_*', 'rgb=mask', '*=mask', '*_*=*', '*=*=*'])
def test_names_need_one_star_on_each_side(convert, names, capsys):
    with pytest.raises(SystemExit):
        convert('masks', 'images', '--names', names)
    assert f'{names!r} is not IMAGE=MASK with one * on each side' in capsys.readouterr().err


def test_palettes_of_voc_count_by_ids_and_those_of_another_order_by_colours(convert):
    border = mask_of(0)
    border[29] = 255
    for index in range(2):
        save(Path(f'JPEGImages/{index}.jpg'), np.zeros((48, 64, 3), np.uint8))
    Path('SegmentationClass').mkdir()
    write_label_png('SegmentationClass/0.png', border, LABELS)
    quantized = Image.fromarray(LABELS.palette[mask_of(1)]).quantize(3)
    quantized.save('SegmentationClass/1.png')
    assert (np.asarray(quantized) != mask_of(1)).any()
    status, said = convert('SegmentationClass', 'JPEGImages')
    assert status == 0, said
    np.testing.assert_array_equal(written('0', '1'), [border, mask_of(1)])


def test_a_map_of_colours_counts_for_palettes_too(convert):
    save(Path('images/0.jpg'), np.zeros((48, 64, 3), np.uint8))
    theirs = LabelSet('theirs', ('floor', 'street', 'lorry'), ((9, 9, 9), (8, 8, 8), (7, 7, 7)))
    Path('masks').mkdir()
    write_label_png('masks/0.png', 2 - mask_of(0), theirs)
    status, said = convert('masks', 'images', rules="'7, 7, 7': background\n8,8,8: road\n9,9,9: car\n")
    assert status == 0, said
    np.testing.assert_array_equal(written('0'), [mask_of(0)])


def test_ids_from_1_on_with_0_for_no_class_are_shifted_by_a_map(convert):
    save(Path('images/0.jpg'), np.zeros((48, 64, 3), np.uint8))
    save(Path('masks/0.png'), np.where(mask_of(0) == 2, 0, mask_of(0) + 1).astype(np.uint8))
    status, said = convert('masks', 'images', rules='0: 255\n1: background\n2: road\n3: car\n')
    assert status == 0, said
    np.testing.assert_array_equal(written('0'), [np.where(mask_of(0) == 2, 255, mask_of(0))])


@pytest.mark.parametrize(
    ('pixels', 'rules', 'words'),
    [
        (
            LABELS.palette[mask_of(0)] + np.uint8(1),
            '',
            STRAY_COLORS,
        ),
        (
            LABEL_IDS[mask_of(0)],
            '',
            '0.png holds ids [7, 23, 26], of which [7, 23, 26] are no class: write a class or 255 for each',
        ),
        (
            LABEL_IDS[mask_of(0)],
            '7: road\n26: car',
            '0.png holds ids [7, 23, 26], of which [23] are no class',
        ),
        (
            mask_of(0) + np.uint8(1),
            'others: 255',
            'ids [1, 2, 3], of which [3] are no class: write a class or 255 for each',
        ),
        (mask_of(0), '7: raod', "map.yaml: 7: unknown class 'raod': did you mean 'road'?"),
        (
            mask_of(0),
            'car: car',
            "map.yaml: 'car' is not an id from 0 to 255, a colour as '128, 64, 0' or others",
        ),
        (mask_of(0), '256: car', 'map.yaml: 256 is not an id from 0 to 255'),
        (mask_of(0), "'1, 2, 256': car", "map.yaml: '1, 2, 256' is not an id"),
        (mask_of(0), '[]', 'map.yaml must be a mapping of ids, colours'),
        (
            mask_of(0).astype(np.uint16) * 500,
            '',
            '0.png: PNG of 16 bits with ids up to 1000: renumber them from 0 to 255',
        ),
        (mask_of(0)[:9], '', 'images/0.jpg is 64x48, its mask masks/0.png 64x9'),
    ],
)
def test_masks_and_maps_that_do_not_fit_are_refused_in_one_line(convert, pixels, rules, words):
    save(Path('images/0.jpg'), np.zeros((48, 64, 3), np.uint8))
    save(Path('masks/0.png'), pixels)
    status, said = convert('masks', 'images', rules=rules)
    assert status == 1
    assert words in said
    assert not list(Path().glob('new/data/labels/*'))


def test_grey_of_16_bits_and_with_alpha_is_converted_where_ids_fit(convert):
    for index in range(2):
        save(Path(f'images/{index}.jpg'), np.zeros((48, 64, 3), np.uint8))
    save(Path('labels/0.png'), mask_of(0).astype(np.uint16))
    save(Path('labels/1.png'), np.dstack([mask_of(1), np.full((48, 64), 200, np.uint8)]))
    with pytest.raises(DataError) as caught:
        find_pairs(Path())
    faults = str(caught.value).splitlines()[1:]
    assert all(fault.endswith('; lw_refinenet label --from-masks converts it') for fault in faults)
    status, said = convert('labels', 'images')
    assert status == 0, said
    np.testing.assert_array_equal(written('0', '1'), [mask_of(0), mask_of(1)])


def test_train_names_the_command_that_converts_colours_and_ids(convert):
    for index, pixels in enumerate((LABELS.palette[mask_of(0)], LABEL_IDS[mask_of(0)])):
        save(Path(f'images/{index}.jpg'), np.zeros((48, 64, 3), np.uint8))
        save(Path(f'labels/{index}.png'), pixels)
    with pytest.raises(DataError) as caught:
        find_pairs(Path())
    colours, ids = str(caught.value).splitlines()[1:]
    assert colours.endswith('; lw_refinenet label --from-masks converts colours')
    assert ids.endswith('lw_refinenet label --from-masks --map FILE converts other ids')


def test_nothing_is_overwritten(convert):
    save(Path('images/0.jpg'), np.zeros((48, 64, 3), np.uint8))
    save(Path('masks/0.png'), mask_of(0))
    assert convert('masks', 'images')[0] == 0
    status, said = convert('masks', 'images')
    assert status == 1
    assert 'new/data/labels/0.png exists: choose another --output' in said
    before = Path('masks/0.png').read_bytes()
    Path('masks').rename('labels')
    command = ['label', '--from-masks', 'labels', '--images', 'images', '--output', '.']
    assert main(command) == 1
    assert Path('labels/0.png').read_bytes() == before


def test_folders_that_do_not_belong_together_are_named(convert):
    save(Path('images/0.jpg'), np.zeros((48, 64, 3), np.uint8))
    save(Path('masks/0_seg.png'), mask_of(0))
    status, said = convert('masks', 'images')
    assert status == 1
    assert "no image of images (0) has a mask of its name in masks (0_seg): try --names '*=*_seg'" in said
    status, said = convert('masks', 'images', '--mask-ending', '_mask')
    assert status == 1
    assert "no image of images (0) has a mask called so in masks (0_seg): try --names '*=*_seg'" in said
    assert convert('masks', 'images', '--mask-ending', '_seg')[0] == 0
    assert convert('masks', 'nowhere')[1].count('nowhere is not a folder') == 1
    assert 'images has no masks NAME.png' in convert('images', 'images')[1]
    cv2.imwrite('images/0.png', mask_of(0))
    cv2.imwrite('images/0.bmp', mask_of(0))
    assert 'images/0.bmp, images/0.jpg' in convert('images', 'images')[1]
