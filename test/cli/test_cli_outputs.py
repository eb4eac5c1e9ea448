# SPDX-License-Identifier: Apache-2.0
"""No output replaces an input, another output or a file of another kind, however it is named."""

import json
import re
import shutil

import cv2
import numpy as np
import pytest

from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.cli.outputs import BAG, JSON, OVERLAY, PICTURE, REPORT, WEIGHTS, Output, check_outputs
from lw_refinenet_ros.evaluation.report.run import write_run_report
from lw_refinenet_ros.files import write_json
from lw_refinenet_ros.image.frame import Frame
from lw_refinenet_ros.sources.bag_writer import BagWriter
from lw_refinenet_ros.sources.video_writer import VideoWriter
from test.support.recordings import pictures, record, stamps

TOPIC, TRUTH = '/front/image', '/front/truth'


@pytest.fixture
def drive(tmp_path, street):
    """A recorded bag of two frames with masks."""
    when, masks = stamps(2), [np.zeros((96, 128), np.uint8)] * 2
    frames = list(zip(when, pictures(street, 2)))
    return record(tmp_path / 'drive', {TOPIC: ('rgb8', frames), TRUTH: ('mono8', list(zip(when, masks)))})


@pytest.fixture
def refused(tmp_path, capsys):
    """Run what must be refused before any work; return the line that says why."""

    def snapshot():
        return {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}

    def run(*arguments):
        before = snapshot()
        assert main(list(map(str, arguments))) == 1
        said = capsys.readouterr().err
        assert snapshot() == before
        assert said.count('\n') == 1, said  # so no engine was loaded, which is said too
        return said

    return run


@pytest.fixture
def evaluate(drive, tiny_weights):
    return ['evaluate', '--bag', drive, '--topic', TOPIC, '--labels', TRUTH, '--weights', tiny_weights]


def storage(bag):
    """The one file of a bag that holds its messages."""
    (file,) = (path for path in bag.iterdir() if path.name != 'metadata.yaml')
    return file


@pytest.mark.parametrize('option', ['--json', '--report', '--output-bag'])
@pytest.mark.parametrize('way', ['itself', 'relative', 'link', 'hard link', 'folder link'])
def test_no_output_of_an_evaluation_replaces_the_recording(
    option, way, evaluate, drive, refused, tmp_path, monkeypatch
):
    file = storage(drive)
    path = file
    if way == 'relative':
        monkeypatch.chdir(tmp_path)
        path = f'drive/../drive/{file.name}'
    elif way in ('link', 'hard link'):
        path = tmp_path / f'other{file.suffix}'
        path.hardlink_to(file) if way == 'hard link' else path.symlink_to(file)
    elif way == 'folder link':
        (tmp_path / 'way').symlink_to(drive)
        path = tmp_path / 'way' / file.name
    said = refused(*evaluate, option, path)
    assert f'{option} {path} would replace the input {drive}/' in said


def test_no_command_replaces_what_it_reads(refused, tmp_path, tiny_weights, street):
    weights, picture, checkpoint = (tmp_path / name for name in ('best.safetensors', 'x.png', 'x.ckpt'))
    shutil.copy(tiny_weights, weights)
    model = tmp_path / 'model.onnx'
    model.symlink_to(weights)
    checkpoint.write_bytes(b'weights of somebody')
    cv2.imwrite(str(picture), street)
    for arguments in (
        ['export', weights, '--output', model],
        ['import', checkpoint, '--output', checkpoint],
        ['quantize', weights, '--data', tmp_path, '--output', weights],
        ['benchmark', '--weights', weights, '--json', weights],
        ['receptive-field', picture, '--weights', weights, '--output', picture],
        ['compare', weights, tiny_weights, '--json', weights],
        ['compare', 'a', 'b', '--images', tmp_path, '--labels', tmp_path, '--json', picture],
        ['train', '--data', tmp_path / 'd', '--output', tmp_path, '--init', weights],
        ['play', tmp_path, '--log', picture],
    ):
        assert 'would replace the input' in refused(*arguments)


def test_two_outputs_are_two_files(evaluate, refused, tmp_path):
    (tmp_path / 'link').symlink_to(tmp_path)
    for other in (tmp_path / 'x.json', tmp_path / 'X.JSON', tmp_path / 'link' / 'x.json'):
        said = refused(*evaluate, '--json', tmp_path / 'x.json', '--report', other)
        assert f'--report {other} is also the output of --json' in said


@pytest.mark.parametrize('option', ['--json', '--report', '--output-bag'])
def test_a_file_of_another_kind_is_kept(option, evaluate, refused, tmp_path, drive):
    path = tmp_path / 'mine.mcap'
    recording = storage(
        record(tmp_path / 'other', {TOPIC: ('mono8', [(stamps(1)[0], np.zeros((4, 4), np.uint8))])})
    )
    for content in (b'notes', b'{"annotations": []}', b'<!DOCTYPE html>', recording.read_bytes()):
        path.write_bytes(content)
        assert f'{option} {path} exists and is not ' in refused(*evaluate, option, path)


@pytest.mark.parametrize('option', ['--json', '--report', '--output-bag'])
def test_what_cannot_be_written_is_refused_before_the_work(option, evaluate, refused, tmp_path):
    (tmp_path / 'file').write_text('')
    assert 'Not a directory' in refused(*evaluate, option, tmp_path / 'file' / 'x.mcap')
    assert 'is a folder: choose a file in it' in refused(*evaluate, option, tmp_path)
    assert 'is not a regular file' in refused(*evaluate, option, '/dev/null')


def test_a_folder_that_may_not_be_written_is_refused_before_the_work(evaluate, refused):
    # In a folder of the kernel's not even root makes files.
    assert '/proc/x.json cannot be written: /proc: ' in refused(*evaluate, '--json', '/proc/x.json')


def test_a_cache_that_may_not_be_written_is_refused_before_the_work(refused, tiny_weights, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', '/proc')
    assert re.search(
        r'--save /proc/\S+ cannot be written: ', refused('benchmark', '--weights', tiny_weights, '--save')
    )


def test_results_of_the_same_kind_are_replaced_and_missing_folders_are_made(evaluate, tmp_path, capsys):
    out = tmp_path / 'new' / 'folder'
    again = [*evaluate, '--json', out / 'x.json', '--report', out / 'x.html', '--output-bag', out / 'x.mcap']
    for _ in range(2):
        assert main(list(map(str, [*again, '--threads', 1]))) == 0, capsys.readouterr().err
    assert sorted(path.name for path in out.iterdir()) == ['x.html', 'x.json', 'x.mcap']
    assert json.loads((out / 'x.json').read_text())['frames'] == 2


def test_every_kind_knows_its_own_files_and_no_others(tmp_path, tiny_weights, street):
    kinds = {'x.json': JSON, 'x.html': REPORT, 'x.mcap': BAG, 'x.mp4': OVERLAY, 'w.safetensors': WEIGHTS}
    write_json(tmp_path / 'x.json', {'miou': 0.5})
    empty = {'tiles': [], 'conditions': {}, 'samples': [], 'legend': [], 'ages': [], 'misses': []}
    write_run_report(tmp_path / 'x.html', title='title', verdict='done', **empty)
    with BagWriter(tmp_path / 'x.mcap') as bag:
        frame = Frame.from_array(street, stamp_ns=1, frame_id='c', encoding='rgb8')
        bag.write_image('/lw_refinenet/overlay', frame)
    with VideoWriter(tmp_path / 'x.mp4', 10.0) as video:
        for index in range(300):  # whose index is larger than the beginning of the file
            video.write(street, index * 100_000_000)
    shutil.copy(tiny_weights, tmp_path / 'w.safetensors')
    for name in kinds:
        for kind in (*kinds.values(), PICTURE):
            assert kind.is_ours(tmp_path / name) == (kind is kinds[name]), (name, kind.name)


def test_a_recording_of_results_by_another_program_is_no_output_of_ours(tmp_path, street):
    path = tmp_path / 'x.mcap'
    with BagWriter(path) as bag:
        bag.write_image('/seg/label', Frame.from_array(street, stamp_ns=1, frame_id='c', encoding='rgb8'))
    assert BAG.is_ours(path)
    path.write_bytes(path.read_bytes().replace(b'rosbags-', b'libmcap ', 1))
    assert not BAG.is_ours(path)


def test_an_empty_file_and_a_link_to_nowhere_may_be_replaced(tmp_path):
    (tmp_path / 'empty').write_bytes(b'')
    (tmp_path / 'link').symlink_to(tmp_path / 'nowhere')
    check_outputs([Output('--a', tmp_path / 'empty', JSON), Output('--b', tmp_path / 'link', JSON)], [])


def test_shipped_weights_are_not_replaced_by_what_is_made_of_them(refused, tmp_path):
    from lw_refinenet_ros.resources import find_weights

    file = tmp_path / 'camvid.onnx'
    file.symlink_to(find_weights('camvid'))
    assert 'would replace the input' in refused('export', 'camvid', '--output', file)


def test_a_demo_that_fails_leaves_no_folder(refused, tmp_path):
    assert 'does not exist' in refused('demo', '--source', tmp_path / 'no', '--output', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_every_command_that_writes_declares_it():
    import argparse

    from lw_refinenet_ros.cli.parser import COMMANDS, _parsers

    writing = {'--output', '--json', '--report', '--output-bag', '--log'}
    undeclared = {'segment', 'label'}  # into folders that they keep in order themselves
    _, commands = _parsers()
    for name in COMMANDS:
        parser = commands[name]
        assert isinstance(parser, argparse.ArgumentParser)
        if writing & set(parser._option_string_actions) and name not in undeclared:
            assert parser.get_default('outputs'), name
