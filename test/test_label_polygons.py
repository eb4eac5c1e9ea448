# SPDX-License-Identifier: Apache-2.0
"""Masks as COCO's and labelme's polygons and back."""

import base64
import contextlib
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('shapely', minversion='2.1', reason='polygons need shapely 2.1')
pytest.importorskip('pycocotools', reason='polygons need pycocotools')

from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.image.encodings import Pixels
from lw_refinenet_ros.image.labels import LabelSet, read_label_png
from lw_refinenet_ros.training.coco import CocoFile, write_coco
from lw_refinenet_ros.training.dataset import find_pairs
from lw_refinenet_ros.training.label_folder import LabelFolder
from lw_refinenet_ros.training.labelme import LabelmeFolder, write_labelme
from lw_refinenet_ros.training.polygons import find_regions, inside, without_holes

# pycocotools 2.0.11 on NumPy 2
pytestmark = pytest.mark.filterwarnings('ignore:__array__ implementation:DeprecationWarning')

LABELS = LabelSet('blocks', ('floor', 'shelf', 'pallet'), ((90, 90, 90), (0, 0, 200), (200, 120, 0)))
IDS = {'floor': 0, 'shelf': 1, 'pallet': 2, 'unlabelled': 255}


def rings_in_rings() -> np.ndarray:
    """A pallet in a shelf in the floor, with holes of every kind; one pixel and a diagonal, too."""
    label = np.zeros((60, 80), np.uint8)
    cv2.circle(label, (40, 30), 25, 1, -1)
    cv2.circle(label, (35, 28), 12, 2, -1)
    cv2.circle(label, (33, 28), 5, 255, -1)
    cv2.rectangle(label, (52, 20), (57, 35), 0, -1)
    label[2, 3] = 1
    np.fill_diagonal(label[50:58, 2:10], 2)
    label[:, -1] = 255
    return label


def noise() -> np.ndarray:
    return np.random.default_rng(5).choice(np.array([0, 1, 2, 255], np.uint8), (24, 31))


def through(kind: str, label: np.ndarray, folder: Path, tolerance: float) -> np.ndarray:
    """A mask to polygons in a file, and back."""
    if kind == 'coco':
        write_coco(folder / 'all.json', [('a.jpg', label)], LABELS, tolerance)
        ((name, back),) = CocoFile(folder / 'all.json').read(IDS)
    else:
        write_labelme(folder / 'a.json', 'a.jpg', label, LABELS, tolerance)
        ((name, back),) = LabelmeFolder(folder).read(IDS)
    assert name == 'a.jpg'
    return back


@pytest.mark.parametrize('mask', [rings_in_rings, noise])
@pytest.mark.parametrize('kind', ['coco', 'labelme'])
def test_every_pixel_comes_back_holes_included(kind, mask, tmp_path):
    label = mask()
    np.testing.assert_array_equal(through(kind, label, tmp_path, 0), label)


@pytest.mark.parametrize('kind', ['coco', 'labelme'])
def test_simplified_polygons_move_outlines_by_a_pixel_or_two(kind, tmp_path):
    label = rings_in_rings()
    label[2, 3] = 0  # a pixel alone is all outline
    back = through(kind, label, tmp_path, 1.0)
    changed = back != label
    assert 0 < changed.mean() < 0.03
    outlines = cv2.morphologyEx(label, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)) > 0
    assert outlines[changed].all()


def test_neighbours_are_simplified_alike():
    regions = find_regions(rings_in_rings(), 1.0)
    exact = find_regions(rings_in_rings(), 0)
    assert sum(r.polygon.area for r in regions) == pytest.approx(60 * 80, rel=1e-3)
    corners = [sum(len(r.polygon.exterior.coords) for r in found) for found in (regions, exact)]
    assert corners[0] < corners[1] / 2
    painted = sum(
        inside([np.ravel(piece.exterior.coords)], (60, 80)).astype(int)
        for region in regions
        for piece in without_holes(region.polygon)
    )
    assert painted.min() >= 1, 'no gaps'


def test_pycocotools_alone_sees_each_region_without_what_lies_in_it(tmp_path):
    from pycocotools.coco import COCO

    label = rings_in_rings()
    write_coco(tmp_path / 'all.json', [('a.jpg', label)], LABELS, 0)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / 'all.json'))
    for category in coco.loadCats(coco.getCatIds()):
        found = coco.loadAnns(coco.getAnnIds(catIds=[category['id']]))
        masks = np.array([coco.annToMask(annotation) for annotation in found])
        np.testing.assert_array_equal(masks.sum(0), label == IDS[category['name']])
        assert sum(annotation['area'] for annotation in found) == (label == IDS[category['name']]).sum()


def test_a_region_deleted_in_labelme_becomes_what_surrounds_it(tmp_path):
    label = np.zeros((40, 40), np.uint8)
    label[10:30, 10:30] = 1
    write_labelme(tmp_path / 'a.json', 'a.jpg', label, LABELS, 0)
    content = json.loads((tmp_path / 'a.json').read_text())
    content['shapes'] = [shape for shape in content['shapes'] if shape['label'] != 'shelf']
    (tmp_path / 'a.json').write_text(json.dumps(content))
    ((_, back),) = LabelmeFolder(tmp_path).read(IDS)
    assert (back == 0).all()


def test_rectangles_and_drawn_masks_of_labelme_count_and_the_later_shape_wins(tmp_path):
    drawn = base64.b64encode(cv2.imencode('.png', np.full((5, 6), 255, np.uint8))[1]).decode()
    shapes = [
        {'label': 'floor', 'points': [[30, 20], [0, 0]], 'shape_type': 'rectangle'},
        {'label': 'shelf', 'points': [[2, 3], [7, 7]], 'shape_type': 'mask', 'mask': drawn},
        {'label': '__ignore__', 'points': [[0, 0], [4, 0], [4, 4], [0, 4]], 'shape_type': 'polygon'},
    ]
    content = {'imagePath': '..\\x\\a.jpg', 'imageHeight': 20, 'imageWidth': 40, 'shapes': shapes}
    (tmp_path / 'a.json').write_text(json.dumps(content))
    expected = np.full((20, 40), 255, np.uint8)
    expected[:, :30] = 0
    expected[3:8, 2:8] = 1
    expected[:4, :4] = 255
    ((name, back),) = LabelmeFolder(tmp_path).read({**IDS, '__ignore__': 255})
    assert name == 'a.jpg'
    np.testing.assert_array_equal(back, expected)


def test_run_length_codes_of_a_coco_file_are_read(tmp_path):
    from pycocotools import mask as codes

    label = rings_in_rings()
    code = codes.encode(np.asfortranarray((label == 1).astype(np.uint8)))
    annotation = {
        'id': 7,
        'image_id': 1,
        'category_id': 4,
        'iscrowd': 1,
        'segmentation': {'size': list(code['size']), 'counts': code['counts'].decode()},
    }
    content = {
        'images': [{'id': 1, 'file_name': 'train/a.jpg', 'height': 60, 'width': 80}],
        'categories': [{'id': 4, 'name': 'shelf'}],
        'annotations': [annotation],
    }
    (tmp_path / 'all.json').write_text(json.dumps(content))
    ((_, back),) = CocoFile(tmp_path / 'all.json').read(IDS)
    np.testing.assert_array_equal(back, np.where(label == 1, 1, 255))


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        ('{', 'no COCO file'),
        ('[]', 'no COCO file'),
        ('{"images": [{"id": 1}], "categories": [], "annotations": []}', 'no COCO file'),
        (
            '{"images": [], "categories": [], "annotations": [{"id": 3, "image_id": 1, "category_id": 1}]}',
            r'annotations \[3\] have no outline',
        ),
    ],
)
def test_a_file_that_is_no_coco_of_outlines_is_refused_in_words(content, said, tmp_path):
    (tmp_path / 'bad.json').write_text(content)
    with pytest.raises(ValueError, match=said):
        CocoFile(tmp_path / 'bad.json')


def test_all_faults_of_labelme_files_are_listed_at_once(tmp_path):
    line = {'label': 'shelf', 'points': [[0, 0], [1, 1]], 'shape_type': 'line'}
    content = {'imagePath': 'a.jpg', 'imageHeight': 9, 'imageWidth': 9, 'shapes': [line]}
    (tmp_path / 'a.json').write_text(json.dumps(content))
    (tmp_path / 'b.json').write_text('not json')
    with pytest.raises(ValueError, match=r'(?s)a\.json: a line .*b\.json is no labelme file'):
        LabelmeFolder(tmp_path)
    with pytest.raises(ValueError, match=r'no \.json files'):
        LabelmeFolder(tmp_path / 'nowhere')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images with masks of nothing."""
    made = LabelFolder(tmp_path / 'mine', LABELS)
    for name in ('a', 'b'):
        image = Pixels(np.full((60, 80, 3), 120, np.uint8), 'rgb')
        made.write_image(name, image)
        made.write_mask(name, image, np.full((60, 80), 255, np.uint8))
    return made.path


def test_what_a_tool_exports_replaces_the_masks(folder, tmp_path, capsys):
    label = rings_in_rings()
    write_coco(tmp_path / 'exported.json', [('some/where/a.png', label)], LABELS, 0)
    assert main(['label', '--from-coco', str(tmp_path / 'exported.json'), '--out', str(folder)]) == 0
    np.testing.assert_array_equal(read_label_png(folder / 'labels' / 'a.png'), label)
    assert (read_label_png(folder / 'labels' / 'b.png') == 255).all()
    assert 'without polygons: 1 images: b' in capsys.readouterr().out
    write_labelme(folder / 'images' / 'b.json', 'b.jpg', label, LABELS, 0)
    assert main(['label', '--from-labelme', str(folder / 'images'), '--out', str(folder)]) == 0
    np.testing.assert_array_equal(read_label_png(folder / 'labels' / 'b.png'), label)
    assert len(find_pairs(folder)) == 2


def test_a_data_set_of_others_gets_its_classes_from_its_polygons(folder, tmp_path):
    write_coco(tmp_path / 'theirs.json', [('a.jpg', rings_in_rings())], LABELS, 0)
    out = tmp_path / 'elsewhere' / 'new'
    images = ('--images', str(folder / 'images'))
    assert main(['label', '--from-coco', str(tmp_path / 'theirs.json'), *images, '--out', str(out)]) == 0
    pairs = find_pairs(out)
    assert pairs.labels.names == LABELS.names
    np.testing.assert_array_equal(read_label_png(pairs.masks[0]), rings_in_rings())


def test_unknown_classes_and_images_are_named(folder, tmp_path, capsys):
    label = rings_in_rings()
    more = LabelSet('more', (*LABELS.names, 'forklift'), (*LABELS.colors, (1, 2, 3)))
    write_coco(tmp_path / 'a.json', [('a.jpg', label)], more, 0)
    assert main(['label', '--from-coco', str(tmp_path / 'a.json'), '--out', str(folder)]) == 1
    assert 'lacks: forklift' in capsys.readouterr().err
    write_coco(tmp_path / 'b.json', [('a.jpg', label[:30]), ('z.jpg', label)], LABELS, 0)
    assert main(['label', '--from-coco', str(tmp_path / 'b.json'), '--out', str(folder)]) == 1
    error = capsys.readouterr().err
    assert 'a.jpg is 80x60, its polygons are for 80x30' in error
    assert 'z.jpg is not in' in error


@pytest.mark.parametrize('kind', ['coco', 'labelme'])
def test_predicted_polygons_come_back_as_the_predicted_masks(kind, tmp_path, street, tiny_weights):
    cv2.imwrite(str(tmp_path / 'one.png'), street)
    out = tmp_path / 'mine'
    engine = ['--weights', str(tiny_weights), '--engine', 'torch']
    command = ['label', str(tmp_path / 'one.png'), '--out', str(out), '--format', kind, '--simplify', '0']
    assert main([*command, *engine]) == 0
    predicted = read_label_png(out / 'labels' / 'one.png')
    (out / 'labels' / 'one.png').unlink()
    back = ['--from-coco', out / 'annotations.json'] if kind == 'coco' else ['--from-labelme', out / 'images']
    assert main(['label', *map(str, back), '--out', str(out)]) == 0
    np.testing.assert_array_equal(read_label_png(out / 'labels' / 'one.png'), predicted)
    assert len(np.unique(predicted)) > 1
    if kind == 'coco':
        assert main([*command, *engine]) == 1, 'a corrected file is not written over'
