# SPDX-License-Identifier: Apache-2.0
"""Masks as COCO's and labelme's polygons and back."""

import base64
import contextlib
import io
import json
import os
import unicodedata
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import numpy as np
import pytest

from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.image.encodings import ColorImage
from lw_refinenet_ros.image.label_png import read_label_png, write_label_png
from lw_refinenet_ros.labels import LabelSet
from lw_refinenet_ros.training.annotations import Annotations
from lw_refinenet_ros.training.coco import read_coco, write_coco
from lw_refinenet_ros.training.dataset import find_pairs
from lw_refinenet_ros.training.label_folder import LabelFolder
from lw_refinenet_ros.training.labelme import read_labelme, write_labelme
from lw_refinenet_ros.training.polygons import find_regions, inside, without_holes


def lacks(package, *least):
    try:
        return tuple(map(int, version(package).split('.')[: len(least)])) < least
    except PackageNotFoundError:
        return True


pytestmark = [  # no skips of the module, which `-m ros` would count
    pytest.mark.skipif(lacks('shapely', 2, 1), reason='polygons need shapely 2.1'),
    pytest.mark.skipif(lacks('pycocotools'), reason='polygons need pycocotools'),
    # pycocotools 2.0.11 on NumPy 2
    pytest.mark.filterwarnings('ignore:__array__ implementation:DeprecationWarning'),
]

LABELS = LabelSet('blocks', ('floor', 'shelf', 'pallet'), ((90, 90, 90), (0, 0, 200), (200, 120, 0)))
IDS = {'floor': 0, 'shelf': 1, 'pallet': 2, 'unlabelled': 255, 'unlabeled': 255, '__ignore__': 255}


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


def only_mask(annotations: Annotations) -> tuple[str, np.ndarray]:
    """The file name and the mask of the only image."""
    (image,) = annotations.images
    return image.file, image.mask(image.size, IDS)


def through(kind: str, label: np.ndarray, folder: Path, tolerance: float) -> np.ndarray:
    """A mask to polygons in a file, and back."""
    if kind == 'coco':
        write_coco(folder / 'all.json', [('a.jpg', label)], LABELS, tolerance)
        name, back = only_mask(read_coco(folder / 'all.json'))
    else:
        write_labelme(folder / 'a.json', 'a.jpg', label, LABELS, tolerance)
        name, back = only_mask(read_labelme(folder))
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
        inside([np.array(piece.exterior.coords)], (60, 80)).astype(int)
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
    _, back = only_mask(read_labelme(tmp_path))
    assert (back == 0).all()


@pytest.mark.parametrize('name', ['unlabelled', 'unlabeled', '__ignore__'])
def test_rectangles_and_drawn_masks_of_labelme_count_and_the_later_shape_wins(tmp_path, name):
    drawn = base64.b64encode(cv2.imencode('.png', np.full((5, 6), 255, np.uint8))[1]).decode()
    shapes = [
        {'label': 'floor', 'points': [[30, 20], [0, 0]], 'shape_type': 'rectangle'},
        {'label': 'shelf', 'points': [[2, 3], [7, 7]], 'shape_type': 'mask', 'mask': drawn},
        {'label': name, 'points': [[0, 0], [4, 0], [4, 4], [0, 4]], 'shape_type': 'polygon'},
    ]
    content = {'imagePath': '..\\x\\a.jpg', 'imageHeight': 20, 'imageWidth': 40, 'shapes': shapes}
    (tmp_path / 'a.json').write_text(json.dumps(content))
    expected = np.full((20, 40), 255, np.uint8)
    expected[:, :30] = 0
    expected[3:8, 2:8] = 1
    expected[:4, :4] = 255
    file, back = only_mask(read_labelme(tmp_path))
    assert file == 'a.jpg'
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
    _, back = only_mask(read_coco(tmp_path / 'all.json'))
    np.testing.assert_array_equal(back, np.where(label == 1, 1, 255))


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        ('{', 'not a COCO file: not JSON'),
        ('[' * 100_000, 'not a COCO file: not JSON'),
        ('[]', 'not a COCO file'),
        ('{"images": [], "categories": {}, "annotations": []}', 'lacks lists of categories'),
        ('{"images": [{"id": 1}], "categories": [], "annotations": []}', r"images\[0\] has no 'file_name'"),
        (
            '{"images": [], "categories": [], "annotations": [{"id": 3, "image_id": 1, "category_id": 1}]}',
            r'annotations\[0\]: the file has no image 1',
        ),
    ],
)
def test_a_file_that_is_no_coco_of_outlines_is_refused_in_words(content, said, tmp_path):
    (tmp_path / 'bad.json').write_text(content)
    with pytest.raises(ValueError, match=said):
        read_coco(tmp_path / 'bad.json')


def test_all_faults_of_labelme_files_are_listed_at_once(tmp_path):
    line = {'label': 'shelf', 'points': [[0, 0], [1, 1]], 'shape_type': 'line'}
    content = {'imagePath': 'a.jpg', 'imageHeight': 9, 'imageWidth': 9, 'shapes': [line]}
    (tmp_path / 'a.json').write_text(json.dumps(content))
    (tmp_path / 'b.json').write_text('not json')
    with pytest.raises(ValueError, match=r'(?s)a\.json: a line .*b\.json is not a labelme file'):
        read_labelme(tmp_path)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match=r'no \.json files'):
        read_labelme(tmp_path / 'empty')
    with pytest.raises(ValueError, match='nowhere does not exist'):
        read_labelme(tmp_path / 'nowhere')


RING = [5, 5, 40, 5, 40, 30, 5, 30]
MARKED = np.full((48, 64), 255, np.uint8)
MARKED[5:30, 5:40] = 1


def coco(folder: Path, segmentation: object, *, prefix: str = '', **changes: object) -> Path:
    """A COCO file of one annotation in a.jpg, 64x48; changes are `image_...` or fields of the annotation."""
    image = {'id': 1, 'file_name': 'a.jpg', 'width': 64, 'height': 48}
    image |= {key.removeprefix('image_'): changes.pop(key) for key in [*changes] if key in IMAGE_CHANGES}
    annotation = {'id': 7, 'image_id': 1, 'category_id': 3, 'segmentation': segmentation, **changes}
    categories = [{'id': 9, 'name': 'floor'}, {'id': 3, 'name': 'shelf'}, {'id': 4, 'name': 'shelf'}]
    content = {'images': [image], 'categories': categories, 'annotations': [annotation]}
    path = folder / 'coco.json'
    path.write_text(prefix + json.dumps(content), encoding='utf-8')
    return path


IMAGE_CHANGES = ('image_width', 'image_height', 'image_file_name')
RUNS = [5 * 48 + 5, *[25, 23] * 34, 25, 18 + 24 * 48]


@pytest.mark.parametrize(
    ('segmentation', 'changes'),
    [
        ([RING], {}),
        (RING, {}),  # without the list around it: roboflow/supervision#205
        ([RING, [32.0, 24.0], [1, 1, 3, 3]], {}),  # stray points and lines: jsbroks/coco-annotator#526
        ([RING], {'category_id': '3', 'image_id': '1'}),
        ([RING], {'category_id': 4}),  # of the same name
        ([RING], {'image_file_name': 'JPEGImages\\a.jpg'}),
        ([RING], {'prefix': '\ufeff'}),
        ([[str(value) for value in RING]], {}),
        ({'size': [48, 64], 'counts': RUNS}, {}),
        ({'size': [48, 64], 'counts': RUNS}, {'image_width': None, 'image_height': 0}),
    ],
)
def test_coco_as_real_tools_write_it_is_read_right(segmentation, changes, tmp_path):
    annotations = read_coco(coco(tmp_path, segmentation, **changes))
    assert annotations.classes == ('shelf', 'floor')
    name, mask = only_mask(annotations)
    assert name == 'a.jpg'
    np.testing.assert_array_equal(mask, MARKED)


def test_the_size_of_an_image_may_be_missing(tmp_path):
    (image,) = read_coco(coco(tmp_path, [RING], image_width=None, image_height=None)).images
    assert image.size is None
    np.testing.assert_array_equal(image.mask((48, 64), IDS), MARKED)


@pytest.mark.parametrize(
    ('segmentation', 'changes', 'words'),
    [
        ([], {}, 'no outline: annotate with polygons'),
        ('', {}, 'no outline'),
        ([RING[:-1]], {}, 'not pairs of coordinates'),
        ([[1, 2, 3, 4, 5, None]], {}, 'not finite'),
        ([[1, 2, 3, 4, 5, float('inf')]], {}, 'not finite'),
        ([[1, 2, 3, 4, 5, [6]]], {}, 'not pairs of coordinates'),
        ([RING], {'image_id': 2}, 'the file has no image 2'),
        ([RING], {'category_id': 5}, 'the file has no category 5'),
        ([RING], {'category_id': None}, 'None is not an id'),
        ([RING], {'image_width': -64}, '-64x48 is not an image size'),
        ([RING], {'image_file_name': ''}, "'' is not a file name"),
        ({'size': [64, 48], 'counts': RUNS}, {}, r'is for 48x64, a\.jpg is 64x48'),
        ({'size': [48, 64], 'counts': RUNS[:-1]}, {}, 'does not fill'),
        ({'size': [48, 64], 'counts': [-1, 48 * 64 + 1]}, {}, 'does not fill'),
        ({'size': [48, 64], 'counts': 'o' * 1000}, {}, 'not a run-length encoding'),
        ({'size': [48, 64], 'counts': '#'}, {}, 'not a run-length encoding'),
        ({'size': [48, 64]}, {}, "has no 'counts'"),
        ([RING], {'segments_info': []}, 'COCO panoptic: export instances, or use --from-masks'),
    ],
)
def test_annotations_that_cannot_be_read_are_refused_in_one_line(segmentation, changes, words, tmp_path):
    with pytest.raises(ValueError, match=words) as caught:
        read_coco(coco(tmp_path, segmentation, **changes))
    assert '\n' not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_rings_without_an_area_are_left_out_and_listed(tmp_path):
    annotations = read_coco(coco(tmp_path, [[10, 10, 20, 20], [1, 1]]))
    assert list(annotations.without_area) == ['annotation 7 in a.jpg']
    assert (only_mask(annotations)[1] == 255).all()


def test_outlines_may_leave_the_image_by_any_distance():
    far = 2e8
    near = [np.array(points, float) for points in ([[-9, 10], [80, 10], [80, 20], [-9, 20]], [[70, 60]] * 3)]
    away = [np.array([[-far, 10], [far, 10], [far, 20], [-far, 20]]), np.full((3, 2), far)]
    expected = np.zeros((48, 64), bool)
    expected[10:20] = True
    for rings in (near, away):
        np.testing.assert_array_equal(inside(rings, (48, 64)), expected)
    star = np.array([[-far, -far], [far, far], [far, -far], [-far, far]])  # crosses itself at the origin
    marked = inside([star + np.array([32, 24])], (48, 64))
    assert marked[24, 2]
    assert marked[24, 61]
    assert not marked[2, 32]


def labelme(folder: Path, *shapes: tuple[str | None, object], **changes: object) -> Path:
    """A folder with one labelme file of shelves in a.jpg, 64x48."""
    drawn = [{'label': 'shelf', 'shape_type': kind, 'points': points} for kind, points in shapes]
    content = {'imagePath': 'a.jpg', 'imageHeight': 48, 'imageWidth': 64, 'shapes': drawn, **changes}
    (folder / 'a.json').write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ('kind', 'points'),
    [
        ('polygon', [[5, 5], [40, 5], [40, 30], [5, 30]]),
        (None, [[5, 5], [40, 5], [40, 30], [5, 30]]),
        ('rectangle', [[40, 5], [5, 30]]),
        ('rectangle', [[5, 5], [40, 5], [40, 30], [5, 30]]),  # X-AnyLabeling: all four corners
        ('rotation', [[5, 5], [40, 5], [40, 30], [5, 30]]),
        ('quadrilateral', [[5, 5], [40, 5], [40, 30], [5, 30]]),
    ],
)
def test_shapes_of_labelme_and_its_kin_are_read_right(kind, points, tmp_path):
    name, mask = only_mask(read_labelme(labelme(tmp_path, (kind, points), ('polygon', [[1, 1]]))))
    assert name == 'a.jpg'
    np.testing.assert_array_equal(mask, MARKED)


def test_a_circle_is_a_disc_and_a_drawn_mask_may_leave_the_image(tmp_path):
    _, mask = only_mask(read_labelme(labelme(tmp_path, ('circle', [[20, 24], [30, 24]]))))
    assert (mask == 1).sum() == pytest.approx(np.pi * 10**2, rel=0.02)
    assert (mask[24, 10:30] == 1).all()
    assert (mask[24, [9, 30]] == 255).all()
    drawn = base64.b64encode(cv2.imencode('.png', np.full((10, 10), 1, np.uint8))[1]).decode()
    shape = {'label': 'shelf', 'points': [[-4, 44], [5, 53]], 'shape_type': 'mask', 'mask': drawn}
    _, mask = only_mask(read_labelme(labelme(tmp_path, shapes=[shape])))
    expected = np.full((48, 64), 255, np.uint8)
    expected[44:, :6] = 1
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    ('kind', 'points', 'words'),
    [
        ('line', [[0, 0], [1, 1]], 'no area; draw one of polygon'),
        ('linestrip', [[0, 0], [1, 1], [2, 2]], 'no area'),
        ('point', [[0, 0]], 'no area'),
        ('circle', [[0, 0], [1, 1], [2, 2]], '3 points'),
        ('polygon', [[0, 0], [1, None], [2, 2]], 'not finite'),
        ('polygon', 'everything', 'not pairs of coordinates'),
        ('mask', [[0, 0], [1, 1]], "has no 'mask'"),
    ],
)
def test_shapes_without_an_area_are_refused_in_one_line(kind, points, words, tmp_path):
    with pytest.raises(ValueError, match=f"a.json: a {kind} of 'shelf'.* {words}") as caught:
        read_labelme(labelme(tmp_path, (kind, points)))
    assert '\n' not in str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images with masks of nothing."""
    made = LabelFolder(tmp_path / 'mine', LABELS)
    for name in ('a', 'b'):
        image = ColorImage(np.full((60, 80, 3), 120, np.uint8), 'rgb')
        made.write_image(name, image)
        made.write_mask(name, image, np.full((60, 80), 255, np.uint8))
    return made.path


def test_what_a_tool_exports_replaces_the_masks(folder, tmp_path, capsys):
    label = rings_in_rings()
    write_coco(tmp_path / 'exported.json', [('some/where/a.png', label)], LABELS, 0)
    assert main(['label', '--from-coco', str(tmp_path / 'exported.json'), '--output', str(folder)]) == 0
    np.testing.assert_array_equal(read_label_png(folder / 'labels' / 'a.png'), label)
    assert (read_label_png(folder / 'labels' / 'b.png') == 255).all()
    assert 'without polygons: 1 image: b' in capsys.readouterr().out
    write_labelme(folder / 'images' / 'b.json', 'b.jpg', label, LABELS, 0)
    assert main(['label', '--from-labelme', str(folder / 'images'), '--output', str(folder)]) == 0
    np.testing.assert_array_equal(read_label_png(folder / 'labels' / 'b.png'), label)
    assert len(find_pairs(folder)) == 2


def test_an_image_that_is_marked_as_unlabelled_loses_its_mask_and_one_at_fault_is_not_called_unmarked(
    folder, capsys
):
    for name, height in (('a', 60), ('b', 61)):
        points = [[0, 0], [80, 0], [80, 60], [0, 60]]
        shape = {'label': 'unlabelled', 'points': points, 'shape_type': 'polygon'}
        content = {'imageHeight': height, 'imageWidth': 80, 'shapes': [shape]}
        (folder / 'images' / f'{name}.json').write_text(json.dumps(content))
        write_label_png(folder / 'labels' / f'{name}.png', np.zeros((60, 80), np.uint8))
    assert main(['label', '--from-labelme', str(folder / 'images'), '--output', str(folder)]) == 1
    assert (read_label_png(folder / 'labels' / 'a.png') == 255).all()
    assert not read_label_png(folder / 'labels' / 'b.png').any()
    said = capsys.readouterr()
    assert 'without polygons' not in said.out
    assert 'b.json is 80x60, its polygons are for 80x61' in said.err


@pytest.mark.parametrize('option', ['--from-labelme', '--from-coco'])
def test_a_pipe_in_place_of_annotations_is_refused(option, folder, capsys):
    pipe = folder / 'images' / 'a.json'
    os.mkfifo(pipe)
    given = pipe if option == '--from-coco' else pipe.parent
    assert main(['label', option, str(given), '--output', str(folder)]) == 1
    assert 'a.json is a pipe' in capsys.readouterr().err


def test_files_without_shapes_have_no_classes(folder, tmp_path, capsys):
    (folder / 'images' / 'a.json').write_text(json.dumps({'flags': {'cat': True}, 'shapes': []}))
    given = ['--from-labelme', str(folder / 'images'), '--images', str(folder / 'images')]
    assert main(['label', *given, '--output', str(tmp_path / 'new' / 'set')]) == 1
    assert f'{folder}/images has no shapes and so no classes' in capsys.readouterr().err


def test_a_labelme_file_without_the_name_of_its_image_has_that_of_the_image(folder):
    image = folder / 'images' / 'a.jpg'
    image.rename(image.with_name('frame.1.jpg'))
    write_labelme(folder / 'images' / 'frame.1.json', '', rings_in_rings(), LABELS, 0)
    assert main(['label', '--from-labelme', str(folder / 'images'), '--output', str(folder)]) == 0
    np.testing.assert_array_equal(read_label_png(folder / 'labels' / 'frame.1.png'), rings_in_rings())


def test_a_json_of_something_else_is_left_out_unless_an_image_has_its_name(folder, capsys):
    write_labelme(folder / 'images' / 'a.json', 'a.jpg', rings_in_rings(), LABELS, 0)
    (folder / 'images' / 'camera.json').write_text('{"fx": 500}')
    command = ['label', '--from-labelme', str(folder / 'images'), '--output', str(folder)]
    assert main(command) == 0
    said = capsys.readouterr()
    assert '1 mask of' in said.out
    assert "warning: left out, camera.json is not a labelme file: KeyError 'shapes'" in said.err
    (folder / 'images' / 'b.json').write_text('{')
    (folder / 'labels' / 'a.png').unlink()
    assert main(command) == 1
    assert 'images b.json is not a labelme file' in capsys.readouterr().err
    assert not (folder / 'labels' / 'a.png').exists()


def test_a_mask_is_never_replaced_by_one_in_which_nothing_is_marked(folder, tmp_path, capsys):
    label = rings_in_rings()
    write_coco(tmp_path / 'full.json', [('a.jpg', label), ('b.jpg', label)], LABELS, 0)
    assert main(['label', '--from-coco', str(tmp_path / 'full.json'), '--output', str(folder)]) == 0
    write_coco(tmp_path / 'half.json', [('a.jpg', np.full_like(label, 255)), ('b.jpg', label)], LABELS, 0)
    assert main(['label', '--from-coco', str(tmp_path / 'half.json'), '--output', str(folder)]) == 0
    np.testing.assert_array_equal(read_label_png(folder / 'labels' / 'a.png'), label)
    assert 'without polygons: 1 image: a; their masks are kept' in capsys.readouterr().out


def test_nothing_is_written_where_no_image_is_found(folder, tmp_path, capsys):
    write_coco(tmp_path / 'all.json', [('a.jpg', rings_in_rings())], LABELS, 0)
    assert main(['label', '--from-coco', str(tmp_path / 'all.json'), '--output', str(tmp_path / 'n')]) == 1
    assert f'{tmp_path}/n/images is not a folder: use --images DIR' in capsys.readouterr().err
    write_coco(tmp_path / 'other.json', [('c.jpg', rings_in_rings())], LABELS, 0)
    images = ('--images', str(folder / 'images'))
    assert (
        main(['label', '--from-coco', str(tmp_path / 'other.json'), *images, '--output', str(tmp_path / 'n')])
        == 1
    )
    assert 'c.jpg is not in' in capsys.readouterr().err
    assert not (tmp_path / 'n').exists()


def test_a_data_set_of_others_gets_its_classes_from_its_polygons(folder, tmp_path):
    write_coco(tmp_path / 'theirs.json', [('a.jpg', rings_in_rings())], LABELS, 0)
    out = tmp_path / 'elsewhere' / 'new'
    images = ('--images', str(folder / 'images'))
    assert main(['label', '--from-coco', str(tmp_path / 'theirs.json'), *images, '--output', str(out)]) == 0
    pairs = find_pairs(out)
    assert pairs.labels.names == LABELS.names
    np.testing.assert_array_equal(read_label_png(pairs.masks[0]), rings_in_rings())


def test_of_two_images_of_one_stem_the_named_one_gets_the_mask(tmp_path, capsys):
    (tmp_path / 'rgbd').mkdir()
    cv2.imwrite(str(tmp_path / 'rgbd' / 'a.jpg'), np.full((60, 80, 3), 120, np.uint8))
    cv2.imwrite(str(tmp_path / 'rgbd' / 'a.png'), np.full((60, 80), 900, np.uint16))
    given = ('--images', str(tmp_path / 'rgbd'), '--output')
    write_coco(tmp_path / 'all.json', [('a.jpg', rings_in_rings())], LABELS, 0)
    write_labelme(tmp_path / 'rgbd' / 'a.json', 'a.jpg', rings_in_rings(), LABELS, 0)
    for option, source in (('--from-coco', 'all.json'), ('--from-labelme', 'rgbd')):
        out = tmp_path / option
        assert main(['label', option, str(tmp_path / source), *given, str(out)]) == 0
        assert [path.name for path in (out / 'images').iterdir()] == ['a.jpg']
    for names, said in (
        (['a.webp'], 'a.webp may be a.jpg or a.png: move the others away'),
        (['a.jpg', 'a.png'], 'a.png and a.jpg would have one mask: rename one'),
    ):
        write_coco(tmp_path / 'all.json', [(name, rings_in_rings()) for name in names], LABELS, 0)
        out = str(tmp_path / names[-1])
        assert main(['label', '--from-coco', str(tmp_path / 'all.json'), *given, out]) == 1
        assert said in capsys.readouterr().err


def test_folders_in_the_names_of_a_coco_file_count_from_the_folder_of_images(tmp_path, capsys):
    for name, shade in (('JPEGImages/a.jpg', 120), ('a.jpg', 50), ('b.jpg', 70)):
        (tmp_path / 'images' / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / 'images' / name), np.full((60, 80, 3), shade, np.uint8))
    command = ('label', '--images', str(tmp_path / 'images'), '--from-coco', str(tmp_path / 'all.json'))

    def convert(out, *names):
        write_coco(tmp_path / 'all.json', [(name, rings_in_rings()) for name in names], LABELS, 0)
        status = main([*command, '--output', str(tmp_path / out)])
        said = capsys.readouterr()
        return status, said.out + said.err

    assert convert('new', 'JPEGImages/a.jpg', 'elsewhere\\b.jpg')[0] == 0
    assert [cv2.imread(str(tmp_path / f'new/images/{name}.jpg'))[0, 0, 0] for name in 'ab'] == [120, 70]
    assert f'JPEGImages/c.jpg is not in {tmp_path}/images' in convert('none', 'JPEGImages/c.jpg')[1]
    twice = convert('twice', 'JPEGImages/a.jpg', 'a.jpg')
    assert twice[0] == 1
    assert 'a.jpg and JPEGImages/a.jpg would have one mask: rename one' in twice[1]
    cv2.imwrite(str(tmp_path / 'd.jpg'), np.zeros((60, 80, 3), np.uint8))
    assert '../d.jpg is not in' in convert('out', '../d.jpg')[1]
    assert 'overlays' not in convert('none', 'JPEGImages/c.jpg')[1]


def test_a_name_is_the_same_in_whichever_form_its_umlauts_are_stored(folder, tmp_path, capsys):
    stored, listed = (unicodedata.normalize(form, 'Straße_für.jpg') for form in ('NFD', 'NFC'))
    (folder / 'images' / 'a.jpg').rename(folder / 'images' / stored)
    write_coco(tmp_path / 'all.json', [(listed, rings_in_rings())], LABELS, 0)
    out = tmp_path / 'new'
    command = ['label', '--from-coco', str(tmp_path / 'all.json'), '--images', str(folder / 'images')]
    assert main([*command, '--output', str(out)]) == 0
    assert 'without polygons: 1 image: b;' in capsys.readouterr().out
    assert [path.name for path in find_pairs(out).images] == [stored]


def test_what_no_polygon_covers_is_unlabelled_or_background(folder, tmp_path, capsys):
    label = rings_in_rings()
    label[label == 0] = 255
    write_coco(tmp_path / 'all.json', [('a.jpg', label), ('b.jpg', np.full_like(label, 255))], LABELS, 0)
    images = ('--images', str(folder / 'images'))
    for background, rest in ((None, 255), ('yard', 0), ('floor', 0)):
        out = tmp_path / str(background)
        command = ['label', '--from-coco', str(tmp_path / 'all.json'), *images, '--output', str(out)]
        assert main([*command, *(['--background', background] if background else [])]) == 0
        names = LabelSet.from_yaml(out / 'classes.yaml').names
        assert names == (('yard', *LABELS.names) if background == 'yard' else LABELS.names)
        shift = names.index('shelf') - LABELS.names.index('shelf')
        mask = read_label_png(out / 'labels' / 'a.png')
        np.testing.assert_array_equal(mask, np.where(label == 255, rest, label + shift))
        assert not (out / 'labels' / 'b.png').exists(), 'without shapes, nobody looked at it'
    command = ['label', '--from-coco', str(tmp_path / 'all.json'), '--output', str(folder), '--background']
    assert main([*command, 'yard']) == 1
    assert f'--background yard is a class that {folder}/classes.yaml lacks: add it' in capsys.readouterr().err
    assert main([*command, 'unlabelled']) == 1
    assert '--background unlabelled is no class' in capsys.readouterr().err


def test_unknown_classes_and_images_are_named(folder, tmp_path, capsys):
    label = rings_in_rings()
    more = LabelSet('more', (*LABELS.names, 'forklift'), (*LABELS.colors, (1, 2, 3)))
    write_coco(tmp_path / 'a.json', [('a.jpg', label)], more, 0)
    assert main(['label', '--from-coco', str(tmp_path / 'a.json'), '--output', str(folder)]) == 1
    assert 'lacks: forklift' in capsys.readouterr().err
    write_coco(tmp_path / 'b.json', [('a.jpg', label[:30]), ('z.jpg', label)], LABELS, 0)
    assert main(['label', '--from-coco', str(tmp_path / 'b.json'), '--output', str(folder)]) == 1
    error = capsys.readouterr().err
    assert 'a.jpg is 80x60, its polygons are for 80x30' in error
    assert 'z.jpg is not in' in error


@pytest.mark.parametrize('kind', ['coco', 'labelme'])
def test_predicted_polygons_come_back_as_the_predicted_masks(kind, tmp_path, street, tiny_weights):
    cv2.imwrite(str(tmp_path / 'one.png'), street)
    out = tmp_path / 'mine'
    engine = ['--weights', str(tiny_weights), '--engine', 'torch']
    command = ['label', str(tmp_path / 'one.png'), '--output', str(out), '--format', kind, '--simplify', '0']
    assert main([*command, *engine]) == 0
    predicted = read_label_png(out / 'labels' / 'one.png')
    (out / 'labels' / 'one.png').unlink()
    back = ['--from-coco', out / 'annotations.json'] if kind == 'coco' else ['--from-labelme', out / 'images']
    assert main(['label', *map(str, back), '--output', str(out)]) == 0
    np.testing.assert_array_equal(read_label_png(out / 'labels' / 'one.png'), predicted)
    assert len(np.unique(predicted)) > 1
    if kind == 'coco':
        assert main([*command, *engine]) == 1, 'a corrected file is not written over'
