# SPDX-License-Identifier: Apache-2.0
"""`lw_refinenet label`: frames of a recording with predicted masks that training reads."""

import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.image.encodings import ColorImage
from lw_refinenet_ros.image.label_png import prediction_of, read_label_png, write_label_png
from lw_refinenet_ros.labels import LabelSet
from lw_refinenet_ros.sources.selection import Novelty
from lw_refinenet_ros.training.dataset import find_pairs
from lw_refinenet_ros.training.label_folder import LabelFolder, make_label_set
from test.support.recordings import START_NS, STEP_NS, pictures, record, stamps

FRAMES = 7


@pytest.fixture
def frames(street: np.ndarray) -> list[np.ndarray]:
    return pictures(street, FRAMES)


@pytest.fixture
def bag(tmp_path: Path, frames: list[np.ndarray]) -> Path:
    """Seven frames at 10 Hz."""
    return record(tmp_path / 'drive', {'/camera': ('rgb8', list(zip(stamps(FRAMES), frames)))})


@pytest.fixture(scope='module')
def segmenter(tiny_weights: Path) -> Segmenter:
    return Segmenter.load(str(tiny_weights), engine='torch', threads=1)


@pytest.fixture
def label(tmp_path: Path, tiny_weights: Path):
    """Run the command; the engine makes no difference here, and this one starts at once."""

    def run(*arguments: object, out: str = 'mine') -> int:
        engine = ['--weights', tiny_weights, '--engine', 'torch', '--threads', 1]
        return main([*map(str, ('label', '--output', tmp_path / out, *engine, *arguments))])

    return run


def names(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.iterdir())


def test_every_nth_frame_becomes_a_pair_that_training_reads(bag, label, tmp_path, segmenter, frames):
    assert label(bag, '--every', 3, '--png') == 0
    expected = [START_NS + i * STEP_NS for i in (0, 3, 6)]
    for folder in ('images', 'labels', 'overlays'):
        assert names(tmp_path / 'mine' / folder) == expected
    pairs = find_pairs(tmp_path / 'mine')
    assert pairs.labels == segmenter.labels
    for index, mask in zip((0, 3, 6), pairs.masks):
        np.testing.assert_array_equal(read_label_png(mask), segmenter.segment(frames[index]).label)
    stored = cv2.imread(str(pairs.images[1]))[..., ::-1]
    np.testing.assert_array_equal(stored, frames[3])


def test_a_part_of_the_recording_and_no_more_than_asked_for(bag, label, tmp_path):
    assert label(bag, '--every', 1, '--start', 0.2, '--end', 0.5) == 0
    assert names(tmp_path / 'mine' / 'labels') == [START_NS + i * STEP_NS for i in (2, 3, 4)]
    assert label(bag, '--every', 1, '--limit', 2, out='two') == 0
    assert names(tmp_path / 'two' / 'labels') == [START_NS, START_NS + STEP_NS]
    assert {path.suffix for path in (tmp_path / 'two' / 'images').iterdir()} == {'.jpg'}


def test_frames_are_different_from_all_that_were_taken_not_only_from_the_last():
    novelty = Novelty(0.05)
    dark, bright = (ColorImage(np.full((48, 64, 3), value, np.uint8), 'rgb') for value in (20, 120))
    slightly = ColorImage(np.full((48, 64, 3), 30, np.uint8), 'rgb')
    shown = (dark, slightly, bright, dark, bright)
    assert [novelty.is_new(image) for image in shown] == [True, False, True, False, False]
    any_other = Novelty(0)
    assert [any_other.is_new(image) for image in shown] == [True, True, True, False, False]


def test_different_frames_of_a_bag(tmp_path, label, street):
    parts = [street, street, 255 - street, street, 255 - street]
    bag = record(tmp_path / 'stops', {'/camera': ('rgb8', list(zip(stamps(5), parts)))})
    assert label(bag, '--different', 0.05) == 0
    assert names(tmp_path / 'mine' / 'labels') == [START_NS, START_NS + 2 * STEP_NS]


def test_a_mask_that_is_there_is_never_written_over(bag, label, tmp_path, capsys):
    assert label(bag, '--every', 3) == 0
    corrected = tmp_path / 'mine' / 'labels' / f'{START_NS}.png'
    corrected.write_bytes(b'hours of work')
    assert label(bag, '--every', 2) == 0
    assert corrected.read_bytes() == b'hours of work'
    assert names(tmp_path / 'mine' / 'labels') == [START_NS + i * STEP_NS for i in (0, 2, 3, 4, 6)]
    assert 'not overwritten: 2 existing masks' in capsys.readouterr().out


def test_a_labelme_file_that_is_there_is_never_written_over(bag, label, tmp_path):
    images = tmp_path / 'mine' / 'images'
    images.mkdir(parents=True)
    (images / f'{START_NS}.json').write_text('hours of work')
    assert label(bag, '--every', 6) == 0
    assert (images / f'{START_NS}.json').read_text() == 'hours of work'
    assert names(tmp_path / 'mine' / 'labels') == [START_NS + 6 * STEP_NS]


def test_a_coco_file_that_is_there_is_never_written_over(bag, label, tmp_path, capsys):
    pytest.importorskip('shapely', minversion='2.1', reason='polygons need shapely 2.1')
    pytest.importorskip('pycocotools', reason='polygons need pycocotools')
    (tmp_path / 'mine').mkdir()
    corrected = tmp_path / 'mine' / 'annotations.json'
    corrected.write_text('hours of work')
    assert label(bag, '--limit', 1, '--format', 'coco') == 1
    assert f'{corrected} may hold corrections' in capsys.readouterr().err
    assert corrected.read_text() == 'hours of work'


def test_frames_whose_stamps_repeat_are_all_taken(tmp_path, label, frames):
    bag = record(tmp_path / 'reset', {'/camera': ('rgb8', [(0, frame) for frame in frames[:3]])})
    assert label(bag, '--every', 1) == 0
    assert len(list((tmp_path / 'mine' / 'labels').iterdir())) == 3


@pytest.mark.parametrize('kind', ['masks', 'coco', 'labelme'])
def test_the_commands_that_are_printed_can_be_pasted(bag, label, tmp_path, capsys, kind):
    if kind != 'masks':
        pytest.importorskip('shapely', minversion='2.1', reason='polygons need shapely 2.1')
        pytest.importorskip('pycocotools', reason='polygons need pycocotools')
    assert label(bag, '--limit', 1, '--format', kind, out='my labels') == 0
    out = str(tmp_path / 'my labels')
    commands = [shlex.split(line[9:]) for line in capsys.readouterr().out.splitlines() if line[:5] == 'then:']
    assert len(commands) == 1 + (kind != 'masks')
    assert all(command[0] == 'lw_refinenet' for command in commands)
    assert ['--output', out] == commands[0][-2:] or kind == 'masks'
    assert commands[-1][commands[-1].index('--data') + 1] == out


def test_a_source_that_is_not_there_is_named_before_the_engine_is_loaded(label, tmp_path, capsys):
    assert label(tmp_path / 'nope') == 1
    error = capsys.readouterr().err
    assert 'nope' in error
    assert 'lw_refinenet_efficientnet_lite0 on' not in error
    assert not (tmp_path / 'mine').exists()


def test_an_image_that_is_there_is_never_written_over(label, tmp_path, street, capsys):
    images = tmp_path / 'mine' / 'images'
    images.mkdir(parents=True)
    cv2.imwrite(str(images / '1.png'), street)
    (tmp_path / 'new').mkdir()
    cv2.imwrite(str(tmp_path / 'new' / '1.png'), 255 - street)
    before = (images / '1.png').read_bytes()
    assert label(tmp_path / 'new', '--every', 1) == 1
    assert f'{images}/1.png is a different image' in capsys.readouterr().err
    assert (images / '1.png').read_bytes() == before


def test_pixels_of_low_confidence_are_left_to_a_person(bag, label, tmp_path, segmenter, frames):
    result = segmenter.segment(frames[0], confidence=True)
    threshold = float(np.median(result.confidence)) / 255
    assert label(bag, '--limit', 1, '--min-confidence', threshold) == 0
    written = read_label_png(tmp_path / 'mine' / 'labels' / f'{START_NS}.png')
    low = result.confidence < threshold * 255
    assert low.any()
    np.testing.assert_array_equal(written, np.where(low, 255, result.label))


def test_other_classes_take_over_what_has_the_same_name(bag, label, tmp_path, segmenter, frames, capsys):
    classes = tmp_path / 'warehouse.yaml'
    classes.write_text(
        'name: warehouse\nclasses:\n'
        '- {name: forklift, color: [255, 0, 0]}\n- {name: car, color: [0, 0, 255]}\n'
    )
    assert label(bag, '--limit', 1, '--classes', classes) == 0
    label_before = segmenter.segment(frames[0]).label
    written = read_label_png(tmp_path / 'mine' / 'labels' / f'{START_NS}.png')
    car = segmenter.labels.names.index('car')
    assert (label_before == car).any()
    np.testing.assert_array_equal(written, np.where(label_before == car, 1, 255))
    assert find_pairs(tmp_path / 'mine').labels.names == ('forklift', 'car')
    assert 'in no predicted mask: forklift' in capsys.readouterr().err


def test_a_folder_of_images_keeps_its_files_and_names(tmp_path, label, street):
    folder = tmp_path / 'photos'
    folder.mkdir()
    cv2.imwrite(str(folder / 'left.png'), street)
    cv2.imwrite(str(folder / 'right.jpg'), street)
    assert label(folder) == 0, 'each image, though it takes every tenth frame of a recording'
    for name in ('left.png', 'right.jpg'):
        assert (tmp_path / 'mine' / 'images' / name).read_bytes() == (folder / name).read_bytes()
    assert len(find_pairs(tmp_path / 'mine')) == 2


def test_a_mask_shows_its_colours_and_is_read_as_ids(tmp_path, segmenter):
    mask = np.array([[0, 1, 2, 255]], np.uint8)
    write_label_png(tmp_path / 'mask.png', mask, segmenter.labels)
    np.testing.assert_array_equal(read_label_png(tmp_path / 'mask.png'), mask)
    with Image.open(tmp_path / 'mask.png') as image:
        assert image.mode == 'P'
        shown = np.asarray(image.convert('RGB'))
    np.testing.assert_array_equal(shown[0, :3], segmenter.labels.palette[:3])
    assert tuple(shown[0, 3]) == (255, 255, 255)


def test_a_damaged_frame_is_named_and_the_rest_is_taken(tmp_path, label, street, capsys):
    folder = tmp_path / 'photos'
    folder.mkdir()
    for name in ('1.png', '3.png'):
        cv2.imwrite(str(folder / name), street)
    (folder / '2.png').write_bytes(b'no image')
    assert label(folder, '--every', 1) == 1
    assert sorted(path.stem for path in (tmp_path / 'mine' / 'labels').iterdir()) == ['1', '3']
    error = capsys.readouterr().err
    assert '2.png' in error
    assert 'the readable frames were taken' in error


def test_a_folder_of_other_classes_and_a_recording_without_frames_are_refused(bag, label, tmp_path, capsys):
    other = make_label_set('other', ('shelf', 'floor'))
    LabelFolder(tmp_path / 'mine', other)
    classes = tmp_path / 'classes.yaml'
    shutil.copy(tmp_path / 'mine' / 'classes.yaml', classes)
    (tmp_path / 'mine' / 'classes.yaml').write_text(classes.read_text().replace('shelf', 'rack'))
    assert label(bag, '--classes', classes) == 1
    assert 'other classes' in capsys.readouterr().err
    assert label(bag, '--start', 60, out='none') == 1
    assert 'no frame was taken' in capsys.readouterr().err


@pytest.mark.parametrize('wrong', [('--every', '0'), ('--different', '2'), ('--min-confidence', 'high'), ()])
def test_wrong_usage_is_exit_code_2(wrong, label, bag):
    source = (bag,) if wrong else ()
    with pytest.raises(SystemExit) as caught:
        label(*source, *wrong)
    assert caught.value.code == 2


def test_colours_that_are_made_differ():
    for count in (1, 2, 19, 60):
        made = make_label_set('made', tuple(map(str, range(count))))
        assert isinstance(made, LabelSet)
        assert len(set(made.colors)) == count


def test_frames_are_labelled_at_the_network_size_that_is_asked_for(bag, label, tmp_path, segmenter, frames):
    assert label(bag, '--every', 3, '--network-height', 64) == 0
    for mask, index in zip(sorted((tmp_path / 'mine/labels').iterdir()), (0, 3, 6)):
        expected = segmenter.segment(frames[index], network_size=(64, 0)).label
        np.testing.assert_array_equal(read_label_png(mask), expected)


def test_train_warns_of_drafts_until_they_were_corrected(bag, label, tmp_path, tiny_weights, capsys):
    pytest.importorskip('shapely', minversion='2.1', reason='polygons need shapely 2.1')
    pytest.importorskip('pycocotools', reason='polygons need pycocotools')
    assert label(bag, '--every', 3, '--format', 'labelme') == 0
    data = tmp_path / 'mine'
    given = ['train', '--data', data, '--init', tiny_weights, '--batch-size', 2, '--crop-height', 48]
    given += ['--crop-width', 64, '--epochs', 1, '--warmup-epochs', 0, '--device', 'cpu']
    capsys.readouterr()
    assert main([*map(str, given), '--val', str(data), '--output', str(tmp_path / 'drafts')]) == 0
    assert capsys.readouterr().err.count('warning: 6 of 6 masks are predictions of a network itself') == 1
    assert main(['label', '--from-labelme', str(data / 'images'), '--output', str(data)]) == 0
    assert main([*map(str, given), '--output', str(tmp_path / 'corrected')]) == 0
    assert 'predictions' not in capsys.readouterr().err


def test_predictions_that_are_converted_are_still_predictions(bag, label, tmp_path):
    assert label(bag, '--every', 3) == 0
    masks = sorted((tmp_path / 'mine/labels').iterdir())
    write_label_png(masks[0], read_label_png(masks[0]), LabelSet.from_yaml(tmp_path / 'mine/classes.yaml'))
    given = ['--from-masks', masks[0].parent, '--images', tmp_path / 'mine/images']
    assert (
        main(
            [
                *map(str, ['label', *given, '--classes', tmp_path / 'mine/classes.yaml']),
                '--output',
                str(tmp_path / 'converted'),
            ]
        )
        == 0
    )
    converted = sorted((tmp_path / 'converted/labels').iterdir())
    assert [prediction_of(mask) for mask in converted] == [None, 'tiny', 'tiny']
