# SPDX-License-Identifier: Apache-2.0
"""Wrong usage is exit code 2 with the remedy; nothing from a file acts on the terminal."""

import contextlib
import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import cv2
import numpy as np
import pytest

from lw_refinenet_ros.cli.live import RUN_MODULE
from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.cli.options import path
from lw_refinenet_ros.cli.terminal import columns

COMMAND = [sys.executable, '-m', 'lw_refinenet_ros.cli.main']


@pytest.fixture
def usage(capsys):
    """Run what must be wrong usage; return what is said last."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(list(map(str, arguments)))
        assert ended.value.code == 2
        return capsys.readouterr().err.splitlines()[-1]

    return run


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['segmnet', 'x'], "unknown command 'segmnet': did you mean 'segment'? choose one of info, segment,"),
        (['segment', 'x', '--ouput', 'y'], "unknown option '--ouput': did you mean '--output'? choose one"),
        (['segment', 'x', '--ouput=y'], "unknown option '--ouput': did you mean '--output'?"),
        (['segment', 'x', '--output', 'y', '--device', 'gpu'], "unknown device 'gpu': did you mean 'cpu'?"),
        (['segment', 'x', '--output', 'y', '--engine', 'openvin'], "did you mean 'openvino'?"),
        (['segment', 'x', '--output', 'y', '--precision', 'FP16'], "did you mean 'fp16'?"),
        (['segment', 'x', '--output', 'y', '--alpha', '2'], "'2' is not a number from 0 to 1"),
        (
            ['segment', 'x', '--output', 'y', '--network-width', '16384'],
            "'16384' is not an integer from 0 to 4096",
        ),
        (['segment', 'x', '--output', ''], 'is empty'),
        (['evaluate', '--images', 'x', '--labels', 'y', '--jobs', '0'], "'0' is not an integer from 1 on"),
        (
            ['evaluate', '--images', 'x', '--labels', 'y', '--tolerance', 'nan'],
            "'nan' is not a number from 0 on",
        ),
        (['play', 'x', '--rate', '0'], "'0' is not a number above 0"),
        (['play', 'x', '--rate', 'nan'], "'nan' is not a number above 0"),
        (['play', 'x', '--start', 'inf'], "'inf' is not a number from 0 on"),
        (['compare', 'a', 'b', '--block', '-1'], "'-1' is not a number from 0 on"),
        (['benchmark', '--rounds', '0'], "'0' is not an integer from 1 on"),
        (['compare', 'a.json'], 'compare: it needs A; B; see'),
        (['benchmark', '--rounds', '9' * 400], "9' is not an integer from 1 on"),
        (['info', 'camvid', '--size', '99999x99999'], 'must have sides from 1 to 16384'),
        (['info', 'camvid', '--size', '9000x9000'], 'at most 33554432 pixels'),
        (['quantize', 'x', '--data', 'y', '--output', 'z', '--frames', 'all'], "'all' is not an integer"),
        (['evaluate'], 'needs --images DIR or --bag BAG; --labels DIR|TOPIC'),
        (['segment', '--weights', 'x'], 'needs SOURCE; --output DIR'),
    ],
)
def test_a_wrong_value_is_wrong_usage_and_the_nearest_right_one_is_named(usage, arguments, said):
    assert said in usage(*arguments)


def test_without_arguments_the_commands_are_listed(capsys):
    with pytest.raises(SystemExit, match='2'):
        main([])
    assert 'receptive-field' in capsys.readouterr().err


def test_a_home_directory_is_found_in_every_path_that_is_given(monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path))
    assert path('~/x') == tmp_path / 'x'
    (tmp_path / 'x').write_text('')
    assert main(['compare', '~/none.json', '~/none.json', '--json=~/x']) == 1
    assert not Path('~').exists()


def test_a_reader_that_ends_ends_the_command_quietly(tiny_weights):
    process = subprocess.Popen(
        [*COMMAND, 'info', str(tiny_weights)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read() == b''
    assert process.wait() == 141


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='there is no /dev/full')
def test_an_output_that_is_full_is_named():
    with Path('/dev/full').open('w') as full:
        done = subprocess.run([*COMMAND, 'costmap'], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, 'lw_refinenet: <stdout>: No space left on device\n')


def test_a_current_folder_that_was_removed_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / 'gone').mkdir()
    monkeypatch.chdir(tmp_path / 'gone')
    (tmp_path / 'gone').rmdir()
    assert main(['segment', 'x.png', '--output', 'out']) == 1
    assert capsys.readouterr().err == 'lw_refinenet: the current folder was removed: change to another\n'


def test_names_from_files_reach_the_terminal_without_control_characters(tmp_path, capsys):
    name = 'x\x1b]0;owned\x07\u202e\n\udce9.png'
    assert main(['segment', str(tmp_path / name), '--output', str(tmp_path / 'out')]) == 1
    said = capsys.readouterr().err
    assert said == said.replace('\x1b', '').replace('\x07', '').replace('\u202e', '').replace('\udce9', '')
    assert 'x\ufffd]0;owned\ufffd\ufffd' in said
    assert [line[:2] for line in said.splitlines() if not line.startswith('lw_refinenet')] == ['  ']


def on_a_terminal(command, columns=80, **environment):
    """What a process shows on a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack('HHHH', 24, columns, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name != 'COLUMNS'}
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=inherited | environment)
    os.close(theirs)
    shown = b''
    with contextlib.suppress(OSError):  # the end of a terminal
        while part := os.read(ours, 10_000):
            shown += part
    os.close(ours)
    assert process.wait() == 0
    return shown.decode()


def test_colours_are_shown_on_a_terminal_unless_no_color_is_set(tiny_weights):
    swatch = '\x1b[48;2;80;40;140m   \x1b[m  '
    info = [*COMMAND, 'info', str(tiny_weights)]
    assert swatch + 'road' in on_a_terminal(info, NO_COLOR='')
    plain = on_a_terminal(info, NO_COLOR='1')
    assert 'road' in plain
    assert not {'\x1b', '\ufffd'} & set(plain)


def test_a_table_is_no_wider_than_the_terminal(tiny_weights):
    info = [*COMMAND, 'info', str(tiny_weights), '--size', '64x64']
    lines = on_a_terminal(info, 60, NO_COLOR='1').splitlines()
    assert max(len(line) for line in lines if '/' not in line) <= 60  # paths stay whole
    start = next(i for i, line in enumerate(lines) if line.startswith('multiply-adds'))
    assert lines[start + 1].startswith(' ' * len('encoder 0: stride 4')), 'the value goes on below itself'


PROGRESS = """
import sys
from lw_refinenet_ros.cli.terminal import Harmless, Progress
sys.stderr = Harmless(sys.stderr)
progress = Progress('/a/very/long/path' * 10 + ':', 30)
for done in 7, 30:
    progress._shown -= 60
    progress.show(done)
    print('something else', file=sys.stderr)
"""


def test_a_progress_line_is_no_wider_than_the_terminal_and_gives_way_to_other_lines():
    shown = on_a_terminal([sys.executable, '-c', PROGRESS], columns=40)
    first, rest = shown.split('\r\x1b[K')
    other, last, _ = rest.split('\r\n', 2)
    assert other == 'something else'
    for line, figures in ((first, ' 7/30, 0 s left'), (last, ' 30/30')):
        assert len(line) < 40
        assert line.startswith('/a')
        assert line.endswith(figures)


@pytest.mark.parametrize(('given', 'width'), [('0', 80), ('', 80), ('wide', 80), ('40', 40)])
def test_columns_is_the_width_of_a_terminal_unless_it_says_none(monkeypatch, given, width):
    monkeypatch.setenv('COLUMNS', given)
    assert columns(io.StringIO()) == width


def test_a_progress_line_in_a_log_has_no_control_characters():
    done = subprocess.run([sys.executable, '-c', PROGRESS], capture_output=True, text=True, check=True)
    name = '/a/very/long/path' * 10 + ':'
    of = f'{name} 7/30, 0 s left\n', f'{name} 30/30\n'
    assert done.stderr == f'{of[0]}something else\n{of[1]}something else\n'


@pytest.mark.parametrize('closed', ['>&-', '<&-', '2>&-'])
def test_a_stream_that_the_shell_closed_stops_nothing(tmp_path, closed):
    folder = tmp_path / 'images'
    folder.mkdir()
    cv2.imwrite(str(folder / 'a.png'), np.zeros((64, 64, 3), np.uint8))
    command = f'{" ".join(COMMAND)} segment {folder} --output {tmp_path}/out {closed}'
    subprocess.run(['sh', '-c', command], capture_output=True, check=True)
    assert (tmp_path / 'out' / 'labels' / 'a.png').is_file()


def test_commands_run_where_python_strips_docstrings():
    command = [sys.executable, '-OO', *COMMAND[1:], 'segment', '--help']
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert 'usage: lw_refinenet segment' in done.stdout


def test_the_processes_of_a_live_run_take_no_module_from_the_current_folder(tmp_path):
    for name in ('random.py', 'lw_refinenet_ros.py'):
        (tmp_path / name).write_text('raise SystemExit("not mine")')
    command = [sys.executable, '-c', RUN_MODULE, 'lw_refinenet_ros.cli.main', '--version']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.startswith('lw_refinenet_ros '), done.stderr


@pytest.mark.parametrize(
    ('arguments', 'status', 'said'),
    [
        (
            ['--images', 'drive.mcap'],
            2,
            '--images drive.mcap is a bag, not a folder of images: use --bag drive.m',
        ),
        (['--images', 'drive.mp4'], 2, 'drive.mp4 is a video, not a folder of images: use --bag drive.mp4'),
        (['--images', 'drive'], 2, '--images drive is a bag, not a folder of images: use --bag drive'),
        (
            ['--images', 'photos/a.png'],
            2,
            '--images photos/a.png is not a folder: name the folder of the images',
        ),
        (['--images', 'nowhere'], 1, '--images nowhere does not exist'),
        (['--bag', 'nowhere'], 1, '--bag nowhere does not exist'),
        (['--images', 'both'], 1, 'has no mask NAME.png of the 1 image of'),
        (['--bag', 'photos'], 2, '--bag photos is a folder of images: use --images photos'),
        (['--bag', 'photos/a.png'], 2, '--bag photos/a.png is an image: use --images photos\n'),
        (
            ['--bag', 'photos', '--live', '--labels', '/x'],
            2,
            'photos is a folder of images and has no topics: ',
        ),
        (
            ['--bag', 'drive.mp4', '--labels', '/mask'],
            2,
            'drive.mp4 is a video and has no topics: --labels must',
        ),
        (
            ['--bag', 'drive.mcap', '--bag', 'drive.mp4', '--labels', '/x'],
            2,
            'drive.mp4 is a video and has no ',
        ),
    ],
)
def test_images_and_recordings_are_told_apart_and_the_option_is_named(
    arguments, status, said, tmp_path, street, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for folder in ('photos', 'masks', 'drive', 'both'):
        (tmp_path / folder).mkdir()
    for file in ('photos/a.png', 'both/b.png'):
        cv2.imwrite(str(tmp_path / file), street)
    for file in ('drive.mcap', 'drive.mp4', 'drive/metadata.yaml', 'drive/drive_0.db3', 'both/drive.mcap'):
        (tmp_path / file).touch()
    assert main(['evaluate', '--labels', 'masks', *arguments]) == status
    assert said in capsys.readouterr().err
    if '--live' not in arguments and arguments.count('--bag') < 2:
        assert main(['compare', 'camvid', 'camvid', '--labels', 'masks', *arguments]) == status
        assert said in capsys.readouterr().err
