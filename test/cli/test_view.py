# SPDX-License-Identifier: Apache-2.0
"""`lw_refinenet view` and `evaluate --rerun`: what is recorded for the viewer, read back with its SDK."""

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.cli import view
from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.evaluation import rerun_log
from lw_refinenet_ros.labels import LabelSet
from test.support.recordings import pictures, record, stamps

FRAMES = 3
ENGINE = ['--engine', 'torch', '--precision', 'fp32', '--threads', '1']


def read(file):
    """Return the columns of every entity, and of what has no time; and the number of blueprints."""
    chunk = pytest.importorskip('rerun.chunk', reason='rerun-sdk is not installed')
    reader = chunk.RrdReader(str(file))
    entities = {}
    for each in reader.stream().to_chunks():
        batch = each.to_record_batch()
        columns = entities.setdefault(each.entity_path, {})
        for name in batch.schema.names:
            column = batch.column(name)
            values = column.cast('int64') if name in ('time', 'log_time') else column
            columns.setdefault(name, []).extend(values.to_pylist())
    return entities, len(reader.blueprints())


def image_of(columns, shape):
    """The pixels of a SegmentationImage, (frames, H, W)."""
    buffers = [np.asarray(each[0], np.uint8) for each in columns['SegmentationImage:buffer']]
    return np.stack(buffers).reshape(-1, *shape)


@pytest.fixture
def labels(street, tiny_weights):
    segmenter = Segmenter.load(str(tiny_weights), engine='torch', precision='fp32', threads=1)
    return [segmenter.segment(image).label for image in pictures(street, FRAMES)]


@pytest.fixture
def bag(tmp_path, street, labels):
    """Truth is what the network sees, but for a corner that is wrong and one that has none."""
    truths = [label.copy() for label in labels]
    for truth in truths:
        truth[:10, :20] = (truth[:10, :20] + 1) % 3
        truth[-10:] = 255
    images = list(zip(stamps(FRAMES), pictures(street, FRAMES)))
    topics = {'/image': ('rgb8', images), '/truth': ('mono8', list(zip(stamps(FRAMES), truths)))}
    return record(tmp_path / 'bag', topics)


def test_a_recording_that_is_not_whole_is_an_error_and_the_earlier_one_is_kept(tmp_path):
    pytest.importorskip('rerun', reason='rerun-sdk is not installed')
    log = rerun_log.RerunLog(LabelSet('one', ('road',), ((1, 2, 3),)))
    path = tmp_path / 'seen.rrd'
    with log.file(path):
        pass
    before = path.read_bytes()
    disconnect = log._stream.disconnect

    def fill_the_disk():
        disconnect()
        (temporary,) = tmp_path.glob('.*.tmp')
        os.truncate(temporary, temporary.stat().st_size - 1)

    log._stream.disconnect = fill_the_disk
    with (
        pytest.raises(ValueError, match=r'seen\.rrd cannot be written whole: is the disk full?'),
        log.file(path),
    ):
        pass
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ['seen.rrd']


def test_a_source_is_recorded_with_names_and_plots_on_its_own_time(tmp_path, bag, tiny_weights, labels):
    pytest.importorskip('rerun', reason='rerun-sdk is not installed')
    file = tmp_path / 'seen.rrd'
    given = [str(bag), '--topic', '/image', '--weights', str(tiny_weights), *ENGINE, '--save', str(file)]
    for _ in range(2):  # its own file is replaced
        assert main(['view', *given]) == 0
    entities, blueprints = read(file)
    assert blueprints == 1
    assert entities['/image']['time'] == stamps(FRAMES)
    assert entities['/image']['frame'] == list(range(FRAMES))
    assert (image_of(entities['/image/label'], labels[0].shape) == labels).all()
    classes = entities['/']['AnnotationContext:context'][0][0]
    infos = {entry['class_id']: entry['class_description']['info'] for entry in classes}
    assert [infos[i]['label'] for i in (0, 1, 2, 255)] == ['sky', 'road', 'car', 'unlabelled']
    assert infos[1]['color'] == 0x50288CFF
    shares = np.array(entities['/share']['Scalars:scalars'])
    assert shares == pytest.approx(np.array([[(label == i).mean() for i in range(3)] for label in labels]))
    for entity in ('/image/confidence', '/latency_ms/read', '/latency_ms/segment', '/rate_hz'):
        assert entities[entity]['time'] == stamps(FRAMES)
    assert '/image/truth' not in entities


def test_an_evaluation_is_recorded_with_truth_and_difference(tmp_path, bag, tiny_weights, labels):
    pytest.importorskip('rerun', reason='rerun-sdk is not installed')
    file = tmp_path / 'seen.rrd'
    given = ['--bag', str(bag), '--labels', '/truth', '--weights', str(tiny_weights), *ENGINE]
    assert main(['evaluate', *given, '--rerun', str(file)]) == 0
    entities, _ = read(file)
    difference = image_of(entities['/image/difference'], labels[0].shape)
    assert (difference[:, :10, :20] == 1).all()
    assert (difference[:, -10:] == 2).all()
    assert (difference[:, 10:-10] == 0).all()
    assert (image_of(entities['/image/truth'], labels[0].shape)[:, -10:] == 255).all()
    assert len(entities['/miou']['Scalars:scalars']) == FRAMES
    assert entities['/image/truth']['time'] == stamps(FRAMES)


def test_the_frames_asked_for_are_recorded_and_one_that_cannot_be_read_is_an_error(
    tmp_path, street, tiny_weights, monkeypatch, capsys
):
    pytest.importorskip('rerun', reason='rerun-sdk is not installed')
    folder, file = tmp_path / 'images', tmp_path / 'seen.rrd'
    folder.mkdir()
    images = pictures(street, 8)
    for index, image in enumerate(images):
        cv2.imwrite(str(folder / f'{index}.png'), image[..., ::-1])
    (folder / '1.png').write_bytes(b'no image')
    given = ['view', str(folder), '--weights', str(tiny_weights), *ENGINE, '--save', str(file)]
    monkeypatch.setattr(view, 'time', SimpleNamespace(perf_counter=itertools.count().__next__))
    assert main([*given, '--start', '0.15', '--end', '0.55', '--every', '2']) == 1
    said = capsys.readouterr().err
    assert f'{folder}/1.png: ' in said
    assert said.endswith('; 2 frames were shown\n')
    entities, _ = read(file)
    assert np.diff(entities['/image']['time']).tolist() == [200_000_000]
    for jpeg, image in zip(entities['/image']['EncodedImage:blob'], images[2:6:2]):
        shown = cv2.imdecode(np.array(jpeg[0], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert np.abs(shown.astype(int) - image).mean() < 10
    figures = {'/latency_ms/read': 1000.0, '/latency_ms/segment': 1000.0, '/rate_hz': 0.5}
    for name, value in figures.items():  # of a clock that ticks whenever it is read
        assert entities[name]['Scalars:scalars'] == [[value]] * 2, name
    before = file.read_bytes()
    assert main([*given, '--start', '99']) == 1
    (folder / '1.png').unlink()
    assert main([*given, '--start', '99']) == 1
    assert 'there is no frame between --start and --end' in capsys.readouterr().err
    assert file.read_bytes() == before, 'nothing was seen that could replace it'


def test_an_image_too_long_for_the_network_size_is_named_and_the_others_are_shown(
    tmp_path, street, tiny_weights, capsys
):
    pytest.importorskip('rerun', reason='rerun-sdk is not installed')
    cv2.imwrite(str(tmp_path / '1.png'), np.zeros((300, 2, 3), np.uint8))
    cv2.imwrite(str(tmp_path / '2.png'), street)
    given = ['view', str(tmp_path), '--weights', str(tiny_weights), *ENGINE, '--network-width', '128']
    assert main([*given, '--save', str(tmp_path / 'seen.rrd')]) == 1
    said = capsys.readouterr().err
    assert f'{tmp_path}/1.png: the network would see the 2x300 image at 128x19200: ' in said
    assert said.endswith('; 1 frame was shown\n')


def test_what_was_seen_until_an_interrupt_is_kept(tmp_path, street, tiny_weights):
    pytest.importorskip('rerun', reason='rerun-sdk is not installed')
    file, frames = tmp_path / 'seen.rrd', 1000
    images = [(stamp_ns, street[:48, :64]) for stamp_ns in stamps(frames)]
    bag = record(tmp_path / 'bag', {'/image': ('rgb8', images)})
    command = [sys.executable, '-m', 'lw_refinenet_ros.cli.main', 'view', bag, '--save', file]
    process = subprocess.Popen([*command, '--weights', tiny_weights, *ENGINE], stderr=subprocess.PIPE)
    while not any(each.stat().st_size > 100_000 for each in tmp_path.glob('.seen.rrd.*')):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert b'Traceback' not in process.communicate()[1]
    assert process.returncode == 130
    assert 0 < len(read(file)[0]['/image']['frame']) < frames


def test_a_camera_is_recorded_until_it_sends_no_more_frames(
    tmp_path, street, tiny_weights, monkeypatch, capsys
):
    pytest.importorskip('rerun', reason='rerun-sdk is not installed')
    video, file = tmp_path / 'camera.avi', tmp_path / 'seen.rrd'
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*'MJPG'), 10, (128, 96))
    for picture in pictures(street, FRAMES):
        writer.write(picture)
    writer.release()
    attached = cv2.VideoCapture
    monkeypatch.setattr(cv2, 'VideoCapture', lambda index: attached([str(video)][index]))
    assert main(['view', 'camera:0', '--weights', str(tiny_weights), *ENGINE, '--save', str(file)]) == 1
    assert 'camera:0 stopped sending frames' in capsys.readouterr().err
    stamps_ns = read(file)[0]['/image/label']['time']
    assert stamps_ns == sorted(stamps_ns)
    assert len(stamps_ns) == FRAMES


@pytest.mark.parametrize(
    ('arguments', 'status', 'said'),
    [
        (['x.png'], 1, 'there is no display for the viewer: use --save FILE.rrd or --serve'),
        (['--node', '--save', 'x.rrd', '--every', '2'], 2, '--node shows what the node publishes'),
        (['--node', '--save', 'x.rrd', '--engine', 'torch'], 2, '--node shows what the node publishes'),
        (['x.png', '--save', 'x.mp4'], 2, 'must end in .rrd'),
        (['none.png', '--save', 'x.rrd'], 1, 'none.png does not exist'),
    ],
)
def test_what_cannot_be_shown_is_one_line(arguments, status, said, capsys, monkeypatch):
    for name in ('DISPLAY', 'WAYLAND_DISPLAY'):
        monkeypatch.delenv(name, raising=False)
    try:
        assert main(['view', *arguments]) == status
    except SystemExit as ended:
        assert ended.code == status
    assert said in capsys.readouterr().err


def test_a_display_that_does_not_answer_is_one_line(bag, tiny_weights, monkeypatch, capfd):
    pytest.importorskip('rerun', reason='rerun-sdk is not installed')
    monkeypatch.setenv('DISPLAY', ':9999')
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    with socket.create_server(('127.0.0.1', 0)) as free:
        monkeypatch.setattr(rerun_log, 'VIEWER_PORT', free.getsockname()[1])
    given = [str(bag), '--topic', '/image', '--weights', str(tiny_weights), *ENGINE]
    assert main(['view', *given]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert f'lw_refinenet: {rerun_log.NO_WINDOW}' in lines
    assert not any('Traceback' in line for line in lines)


@pytest.mark.parametrize(
    ('numpy', 'said'),
    [
        ('2.3.5', "pip install 'lw_refinenet_ros[view]'"),
        ('1.26.4', 'needs NumPy 2, and here is 1.26.4, as ROS may need: use an environment of its own'),
    ],
)
def test_without_rerun_the_remedy_is_named(numpy, said, tmp_path, bag, tiny_weights, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'rerun', None)
    monkeypatch.setattr(np, '__version__', numpy)
    given = [str(bag), '--topic', '/image', '--weights', str(tiny_weights), *ENGINE]
    assert main(['view', *given, '--save', str(tmp_path / 'x.rrd')]) == 1
    assert said in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ['bag']
