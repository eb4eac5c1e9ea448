# SPDX-License-Identifier: Apache-2.0
"""`segment` loses no frame and no file: names that meet, sources at fault, folders of others, sudden ends."""

import random
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.cli.segment_folder import places, unique_names
from lw_refinenet_ros.files import lock_folder
from lw_refinenet_ros.image.label_png import read_label_png, write_label_png
from test.support.recordings import pictures, record, stamps

TOPIC = '/front/image'


@pytest.fixture
def segment(tmp_path, tiny_weights, capsys):
    """Run the command into out/; return its status, what it said, and the names of labels and overlays."""

    def run(*arguments, output=tmp_path / 'out'):
        engine = ['--weights', tiny_weights, '--engine', 'torch', '--threads', 1]
        status = main(list(map(str, ['segment', *arguments, '--output', output, *engine])))
        said = capsys.readouterr()
        labels, overlays = (
            sorted(
                str(path.relative_to(output / kind).with_suffix('')) for path in (output / kind).rglob('*.*')
            )
            for kind in ('labels', 'overlays')
        )
        assert labels == overlays
        return status, said.out + said.err, labels

    return run


def folder_of(path, images, suffix='png'):
    path.mkdir()
    for index, image in enumerate(images):
        cv2.imwrite(str(path / f'{index:06}.{suffix}'), image)
    return path


def video_of(path, images):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, images[0].shape[1::-1])
    for image in images:
        writer.write(image)
    writer.release()
    return path


def test_several_sources_with_equal_names_keep_all_results_apart(segment, tmp_path, street):
    images = pictures(street, 2)
    sources = [folder_of(tmp_path / name, images) for name in ('left', 'right')]
    sources += [video_of(tmp_path / name, images) for name in ('a.avi', 'b.avi')]
    (tmp_path / 'x').mkdir()
    sources += [shutil.copy(tmp_path / 'left' / '000000.png', tmp_path / 'x' / '000000.png')]
    sources += [tmp_path / 'left' / '000000.png']
    status, said, names = segment(*sources)
    assert status == 0, said
    frames = ('0000000001000000000', '0000000001100000000')
    assert names == sorted(
        [f'{place}/{index:06}' for place in ('left', 'right') for index in range(2)]
        + [f'{place}/{stamp}' for place in 'ab' for stamp in frames]
        + ['x-000000', 'left-000000']
    )
    assert f'{tmp_path}/left: 2 frames, {tmp_path}/out/labels/left/*.png' in said


def test_images_of_one_name_in_one_folder_keep_all_results_apart(segment, tmp_path, street):
    folder = folder_of(tmp_path / 'mixed', [street])
    for suffix in ('bmp', 'jpeg'):
        cv2.imwrite(str(folder / f'000000.{suffix}'), street)
    status, said, names = segment(folder)
    assert status == 0
    assert len(names) == 3
    assert '000000' in names
    assert said.count('its results are called 000000_') == 2


def test_names_of_paths_are_unique_on_every_file_system():
    from pathlib import Path

    def check(paths, wanted):
        assert unique_names([Path(path) for path in paths]) == wanted

    check(['a/x.png', 'a/y.png'], ['x', 'y'])
    check(['a/x.png', 'a/X.jpg'], ['x.png', 'X.jpg'])
    check(['a/x.png', 'b/x.png', 'y.png'], ['a-x', 'b-x', 'y'])
    check(['a/x.png', 'a/x.jpg', 'b/x.png'], ['a-x', 'x.jpg', 'b-x'])
    check(['0/a/x.png', '1/a/x.png'], ['a-x.png', 'a-x.png-2'])
    check(['a/x.png', 'a/x.bmp', 'a/x.bmp.png'], ['x.png', 'a-x', 'a-x.bmp'])


def test_a_source_that_is_given_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match='is given twice'):
        places([str(tmp_path), f'{tmp_path}/../{tmp_path.name}'])


def test_braces_in_names_are_names():
    assert places(['{0}.mcap', 'b.mcap'])[0].format('7') == '{0}/7'


def test_one_bad_frame_is_named_and_the_rest_of_all_sources_is_segmented(segment, tmp_path, street):
    images = pictures(street, 4)
    bag = record(tmp_path / 'bag', {f'{TOPIC}/compressed': ('jpg', list(zip(stamps(4), images)))})
    folder, good = folder_of(tmp_path / 'folder', images, 'jpg'), folder_of(tmp_path / 'good', images[:2])
    bad = folder / '000001.jpg'
    bad.write_bytes(bad.read_bytes()[:500])
    status, said, names = segment(folder, tmp_path / 'none.mcap', bag, good)
    assert status == 1
    assert not names
    assert 'none.mcap does not exist' in said
    damaged = tmp_path / 'damaged.mcap'
    damaged.write_bytes(b'no bag')
    status, said, names = segment(folder, damaged, bag, good)
    assert status == 1
    assert len(names) == 3 + 4 + 2
    (complaint,) = [line for line in said.splitlines() if line.startswith('lw_refinenet: ')]
    assert str(damaged) in complaint
    assert '(and 1 more); 9 frames were segmented' in complaint
    status, said, names = segment(folder, output=tmp_path / 'one')
    assert (status, len(names)) == (1, 3)
    assert f'lw_refinenet: {bad}: ' in said


def test_images_of_12_bits_in_16_are_called_dark(segment, tmp_path, street):
    twelve_bits = folder_of(tmp_path / 'twelve', [street.astype(np.uint16) << 4])
    _, said, names = segment(twelve_bits, output=tmp_path / 'dark')
    assert f'{twelve_bits}: no image has a value above 15 of 255' in said
    assert names == ['000000']
    _, said, _ = segment(folder_of(tmp_path / 'sixteen', [street.astype(np.uint16) << 8]))
    assert 'no image has a value' not in said


def test_every_bad_frame_is_named(segment, tmp_path, street):
    folder = folder_of(tmp_path / 'some', pictures(street, 4))
    for name in '012':
        (folder / f'00000{name}.png').write_bytes(b'no image')
    status, said, names = segment(folder)
    assert (status, names) == (1, ['000003'])
    assert all(f'{folder}/00000{name}.png: ' in said for name in '012')
    assert '(and 2 more); 1 frame was segmented' in said


def test_a_link_to_itself_is_one_line(segment, tmp_path):
    loop = tmp_path / 'loop.png'
    loop.symlink_to(loop)
    for sources in ([loop], [tmp_path, loop]):
        status, said, _ = segment(*sources)
        assert status == 1
        assert str(loop) in said


def test_frames_are_chosen_by_number_and_time(segment, tmp_path, street):
    when = stamps(6)
    bag = record(tmp_path / 'bag', {TOPIC: ('rgb8', list(zip(when, pictures(street, 6))))})
    options = ['--every', 2, '--start', 0.1, '--end', 0.5]
    status, said, names = segment(bag, *options)
    assert status == 0, said
    assert names == [str(when[1]), str(when[3])]
    status, said, _ = segment(bag, '--start', 9)
    assert status == 1
    assert 'there is no frame between --start and --end' in said


def test_true_masks_are_not_overwritten(segment, tmp_path, street):
    data = tmp_path / 'data'
    data.mkdir()
    folder_of(data / 'images', [street])
    (data / 'labels').mkdir()
    write_label_png(data / 'labels' / '000000.png', np.ones((4, 4), np.uint8))
    before = (data / 'labels' / '000000.png').read_bytes()
    assert main(['segment', str(data / 'images'), '--output', str(data)]) == 1
    assert (data / 'labels' / '000000.png').read_bytes() == before
    assert sorted(path.name for path in data.iterdir()) == ['images', 'labels']


@pytest.mark.parametrize('kind', ['labels', 'overlays'])
def test_links_and_inputs_in_place_of_a_folder_of_results_are_refused(
    kind, segment, tmp_path, street, capsys
):
    images = folder_of(tmp_path / 'images', [street])
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / kind).symlink_to(images)
    assert main(['segment', str(images), '--output', str(tmp_path / 'out')]) == 1
    assert f'{kind}/ is a link' in capsys.readouterr().err
    (tmp_path / 'out' / kind).unlink()
    assert segment(images)[0] == 0
    assert main(['segment', str(tmp_path / 'out' / kind), '--output', str(tmp_path / 'out')]) == 1
    assert 'would replace the input' in capsys.readouterr().err


def test_results_of_other_sources_are_not_mixed_with_and_those_of_the_same_replaced(
    segment, tmp_path, street
):
    one, other = (folder_of(tmp_path / name, [street]) for name in ('one', 'other'))
    assert segment(one)[0] == 0
    status, said, names = segment(one)
    assert (status, names) == (0, ['000000'])
    assert '1 label of an earlier run, replaced where frames are the same' in said
    status, said, _ = segment(other)
    assert status == 1
    assert f'holds the results of {one}: choose another folder' in said


def test_results_that_an_earlier_run_left_and_this_one_did_not_replace_are_told(segment, tmp_path, street):
    folder = folder_of(tmp_path / 'images', [street, street, street])
    assert 'remain' not in segment(folder)[1]
    assert 'remain' not in segment(folder)[1]
    status, said, names = segment(folder, '--every', 3)
    assert (status, len(names)) == (0, 3)
    assert f'{tmp_path}/out: 2 earlier labels remain, such as 000001.png, of frames not segmented now' in said


def test_a_folder_that_another_run_writes_into_is_refused(segment, tmp_path, street):
    (tmp_path / 'out').mkdir()
    with lock_folder(tmp_path / 'out'):
        status, said, names = segment(folder_of(tmp_path / 'images', [street]))
    assert (status, names) == (1, [])
    assert 'in use by another process' in said


def test_the_last_result_that_cannot_be_written_is_an_error(segment, tmp_path, street):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'overlays').write_text('a file in the place of the folder')
    status, said, _ = segment(folder_of(tmp_path / 'images', [street]))
    assert status == 1
    assert f'{tmp_path}/out/overlays' in said


SLOW = """
import sys
import time
from lw_refinenet_ros.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_whenever_it_is_killed_every_file_is_whole(tmp_path, tiny_weights, street):
    big = cv2.resize(street, (640, 480))
    folder, out = folder_of(tmp_path / 'images', [big] * 40), tmp_path / 'out'
    command = ['segment', folder, '--output', out, '--weights', tiny_weights, '--engine', 'torch']
    for seed in range(3):
        process = subprocess.Popen(
            [sys.executable, '-c', SLOW, *map(str, command)],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        count = random.Random(seed).randint(1, 20)
        while process.poll() is None and len(list(out.glob('labels/[!.]*'))) < count:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for path in out.glob('labels/[!.]*'):
            assert read_label_png(path).shape == big.shape[:2]
        for path in out.glob('overlays/[!.]*'):
            content = path.read_bytes()
            assert content.endswith(b'\xff\xd9')
            assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR).shape == big.shape
        shutil.rmtree(out)


def test_the_network_sees_photographs_at_the_size_that_is_asked_for(segment, tmp_path, street, segmenter):
    photograph = cv2.resize(street, (640, 480))
    folder = folder_of(tmp_path / 'photographs', [photograph])
    status, said, names = segment(folder, '--network-width', 128)
    assert status == 0, said
    label = read_label_png(tmp_path / f'out/labels/{names[0]}.png')
    seen = segmenter.segment(photograph[..., ::-1], network_size=(96, 128)).label
    np.testing.assert_array_equal(label, seen)
    assert (label != segmenter.segment(photograph[..., ::-1]).label).any(), 'the size shows'
    status, said, _ = segment(folder, '--network-height', 64, '--network-width', 128)
    assert status == 0, said
    label = read_label_png(tmp_path / f'out/labels/{names[0]}.png')
    assert (label != seen).any()


def test_a_size_that_no_network_can_see_is_wrong_usage(tmp_path, street, tiny_weights, capsys):
    folder = folder_of(tmp_path / 'photographs', [street])
    arguments = ['segment', folder, '--output', tmp_path / 'out', '--weights', tiny_weights]
    assert main([*map(str, arguments), '--network-height', '16']) == 2
    said = '--network-height 16 is smaller than one cell of the network: use 0 or at least 32'
    assert said in capsys.readouterr().err


def test_an_image_too_long_for_the_network_size_is_named_and_the_others_are_segmented(
    segment, tmp_path, street
):
    long = np.zeros((300, 2, 3), np.uint8)
    folder = folder_of(tmp_path / 'photographs', [street, long, street])
    status, said, names = segment(folder, '--network-width', 128)
    assert status == 1
    assert len(names) == 2
    assert 'the network would see the 2x300 image at 128x19200: choose' in said
    assert said.count('.png: the network would see') == 1
