# SPDX-License-Identifier: Apache-2.0
"""`label --next` and `label --review`: which frames to label, and which masks to look at again."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.evaluation.suspects import Suspect, find_suspects
from lw_refinenet_ros.image.label_png import read_label_png, write_label_png
from lw_refinenet_ros.model.weights import load_model, save_model
from lw_refinenet_ros.sources.selection import farthest_first
from test.support.recordings import record, stamps

SIZE = (96, 128)


@pytest.fixture(scope='module')
def weights(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network, sure of most pixels."""
    network, card = load_model(tiny_weights)
    path = tmp_path_factory.mktemp('sure') / 'sure.safetensors'
    save_model(path, network, replace(card, temperature=0.05))
    return path


@pytest.fixture
def label(tmp_path: Path, weights: Path):
    """Run the command into one folder; the engine makes no difference here, and this one starts at once."""

    def run(*arguments: object, output: bool = True) -> int:
        engine = ['--weights', weights, '--engine', 'torch', '--threads', 1]
        into = ['--output', tmp_path / 'mine'] if output else []
        return main([*map(str, ('label', *into, *engine, *arguments))])

    return run


@pytest.fixture
def photos(tmp_path: Path, street: np.ndarray) -> Path:
    """A street, twice almost the same, and its negative."""
    folder = tmp_path / 'photos'
    folder.mkdir()
    for name, image in (('a', street), ('b', np.roll(street, 1, axis=1)), ('c', 255 - street)):
        cv2.imwrite(str(folder / f'{name}.png'), image)
    return folder


def grey(*values: int) -> np.ndarray:
    return np.stack([np.full(768, value, np.uint8) for value in values])


def test_the_most_valuable_frames_are_chosen_unlike_each_other():
    thumbnails, worth = grey(100, 101, 200, 150), np.array([3.0, 2.9, 1.0, 0.0])
    chosen = list(farthest_first(thumbnails, worth, [], 3))
    assert [index for index, _ in chosen] == [
        0,
        2,
        1,
    ]  # not the copy of the first; never what is worth nothing
    np.testing.assert_allclose([apart for _, apart in chosen], [1, 100 / 255, 1 / 255])
    assert (
        next(farthest_first(thumbnails, worth, grey(100), 1))[0] == 2
    )  # the first two look like what is known


def reasons(capsys) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith('frame ')]


def test_frames_are_taken_with_reasons_and_not_the_copy_of_one(photos, label, tmp_path, capsys):
    assert label(photos, '--next', 2) == 0
    assert {path.stem for path in (tmp_path / 'mine' / 'labels').iterdir()} in ({'a', 'c'}, {'b', 'c'})
    first, second = reasons(capsys)
    assert 'uncertain on ' in first
    assert '% of pixels, flip disagrees on ' in first
    assert 'labelled or chosen' not in first
    assert second.endswith(' from 1 labelled or chosen before')
    assert label(photos, '--next', 9) == 0  # what the folder has by now is neither chosen nor written over
    assert len(reasons(capsys)) == 1
    assert len(list((tmp_path / 'mine' / 'labels').iterdir())) == 3


def test_where_all_is_labelled_or_nothing_the_command_says_so(photos, label, tmp_path, capsys):
    assert label(photos, '--next', 3) == 0
    assert label(photos, '--next', 3) == 1
    assert 'no frame was taken: there is none between --start and --end, or all are labelled' in (
        capsys.readouterr().err
    )
    (tmp_path / 'unlabelled' / 'images').mkdir(parents=True)
    assert label(photos, '--next', 1, '--labelled', tmp_path / 'unlabelled') == 1
    assert 'unlabelled has no image with a mask in labels/' in capsys.readouterr().err


def test_the_frame_that_the_network_doubts_most_is_chosen(tmp_path, label, street):
    flat = [np.full_like(street, value) for value in (100, 128, 150)]
    bag = record(
        tmp_path / 'drive', {'/camera': ('rgb8', list(zip(stamps(4), (*flat[:2], street, flat[2]))))}
    )
    assert label(bag, '--next', 1) == 0
    assert [path.stem for path in (tmp_path / 'mine' / 'labels').iterdir()] == [str(stamps(3)[2])]


def test_frames_that_look_like_labelled_ones_come_last(photos, label, tmp_path, street, capsys):
    labelled = tmp_path / 'labelled'
    (labelled / 'images').mkdir(parents=True)
    (labelled / 'labels').mkdir()
    cv2.imwrite(str(labelled / 'images' / 'negative.jpg'), 255 - street)
    cv2.imwrite(str(labelled / 'images' / 'without_mask.jpg'), street)
    write_label_png(labelled / 'labels' / 'negative.png', np.zeros(SIZE, np.uint8))
    assert label(photos, '--next', 2, '--labelled', labelled) == 0
    chosen = reasons(capsys)
    assert not any(line.startswith('frame c') for line in chosen)
    assert chosen[0].endswith(' from 1 labelled or chosen before')


def test_a_planted_label_error_is_found_and_what_is_right_is_not():
    truth = np.zeros(SIZE, np.uint8)
    truth[60:] = 1
    label, confidence = truth.copy(), np.full(SIZE, 250, np.uint8)
    truth[20:40, 50:80] = 2  # a mistake
    truth[60:61] = 0  # an outline, drawn a pixel lower
    truth[70:90, 10:40], confidence[70:90, 10:40] = 2, 200  # where the network is not sure
    truth[70:90, 90:120] = 255
    assert find_suspects(label, truth, confidence) == [Suspect(2, 0, 250 / 255, 600, (64, 30))]


def test_a_review_lists_the_mistake_and_nothing_else(photos, label, tmp_path, capsys):
    data, report = tmp_path / 'mine', tmp_path / 'review.json'
    assert label(photos, '--every', 1) == 0
    capsys.readouterr()
    assert label('--review', data, output=False) == 0
    nothing = '3 masks reviewed: 0 regions where the network is sure of another class\n'
    out, error = capsys.readouterr()
    assert out == nothing
    assert 'warning: 3 of 3 masks are predictions of a network itself, not corrected by hand' in error
    mask = read_label_png(data / 'labels' / 'c.png')
    sky = mask == 0
    mask[sky] = 2
    write_label_png(data / 'labels' / 'c.png', mask)
    assert label('--review', data, '--json', report, output=False) == 0
    header, first, *_ = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ['file', 'labelled', 'predicted']
    assert first.split()[:3] == ['c.png', 'car', 'sky']
    suspects = json.loads(report.read_text())['suspects']
    found = {(each['file'], each['labelled'], each['predicted']) for each in suspects}
    assert found == {('c.png', 'car', 'sky')}
    assert 0.5 * sky.sum() < sum(each['pixels'] for each in suspects) <= sky.sum()


def test_a_review_names_what_it_cannot_read_and_reviews_the_rest(photos, label, tmp_path, capsys):
    assert label(photos, '--every', 1) == 0
    write_label_png(tmp_path / 'mine' / 'labels' / 'a.png', np.zeros((4, 4), np.uint8))
    write_label_png(tmp_path / 'mine' / 'labels' / 'b.png', np.full(SIZE, 7, np.uint8))
    assert label('--review', tmp_path / 'mine', output=False) == 1
    out, error = capsys.readouterr()
    assert '1 mask reviewed' in out
    assert 'the mask of a.png has another size than the image (and 1 more); the rest was reviewed' in error
    assert label('--review', tmp_path, output=False) == 1
    assert f'has no images/ folder: name one that has, such as {tmp_path}/mine\n' in capsys.readouterr().err
    assert label('--review', tmp_path / 'none', output=False) == 1
    assert 'none does not exist' in capsys.readouterr().err


def test_an_image_too_long_for_the_network_size_is_named_and_the_others_are_taken_and_reviewed(
    photos, label, tmp_path, capsys
):
    cv2.imwrite(str(photos / 'b.png'), np.zeros((300, 2, 3), np.uint8))
    data, said = tmp_path / 'mine', 'b.png: the network would see the 2x300 image at 128x19200'
    for choice in (['--next', 9], ['--every', 1]):
        assert label(photos, *choice, '--network-width', 128) == 1
        assert capsys.readouterr().err.count(said) == 1
        assert sorted(path.stem for path in (data / 'labels').iterdir()) == ['a', 'c']
    (data / 'images' / 'b.png').write_bytes((photos / 'b.png').read_bytes())
    write_label_png(data / 'labels' / 'b.png', np.zeros((300, 2), np.uint8))
    assert label('--review', data, '--network-width', 128, output=False) == 1
    out, error = capsys.readouterr()
    assert '2 masks reviewed' in out
    assert error.count(said) == 1


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--next', 3, '--limit', 2, 'BAG'], 'leave out --limit'),
        (['--next', 3, 'camera:0'], 'cannot: record them first'),
        (['--next', 3, '--from-coco', 'x.json'], 'choose frames of a BAG'),
        (['--labelled', 'DIR', 'BAG'], '--labelled is for --next'),
        (['--json', 'x.json', 'BAG'], '--json is for --review'),
        (['--review', 'DIR'], 'only --review has none'),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(label, arguments, message, capsys):
    assert label(*arguments) == 2
    assert message in capsys.readouterr().err
