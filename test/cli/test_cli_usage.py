# SPDX-License-Identifier: Apache-2.0
"""Wrong usage is exit code 2 with the remedy; nothing from a file acts on the terminal."""

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.cli.options import path

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


def test_names_from_files_reach_the_terminal_without_control_characters(tmp_path, capsys):
    name = 'x\x1b]0;owned\x07\u202e\n\udce9.png'
    assert main(['segment', str(tmp_path / name), '--output', str(tmp_path / 'out')]) == 1
    said = capsys.readouterr().err
    assert said == said.replace('\x1b', '').replace('\x07', '').replace('\u202e', '').replace('\udce9', '')
    assert 'x\ufffd]0;owned\ufffd\ufffd' in said
    assert [line[:2] for line in said.splitlines() if not line.startswith('lw_refinenet')] == ['  ']


def on_a_terminal(*arguments, **environment):
    """What a command shows on a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*COMMAND, *arguments], stdout=theirs, env={**os.environ, **environment})
    os.close(theirs)
    shown = b''
    with contextlib.suppress(OSError):  # the end of a terminal
        while part := os.read(ours, 10_000):
            shown += part
    os.close(ours)
    assert process.wait() == 0
    return shown.decode()


def test_colours_are_shown_on_a_terminal_unless_no_color_is_set(tiny_weights):
    swatch = '\x1b[48;2;80;40;140m   \x1b[m '
    assert swatch + 'road' in on_a_terminal('info', str(tiny_weights), NO_COLOR='')
    plain = on_a_terminal('info', str(tiny_weights), NO_COLOR='1')
    assert 'road' in plain
    assert not {'\x1b', '\ufffd'} & set(plain)


PROGRESS = """
from lw_refinenet_ros.cli.terminal import Progress
progress = Progress('/a/very/long/path' * 10 + ':', 30)
progress.show(30, ' of which none')
"""


def test_a_progress_line_is_no_wider_than_the_terminal():
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 40, 0, 0))
    subprocess.run([sys.executable, '-c', PROGRESS], stderr=theirs, check=True)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    line = shown.removeprefix('\r\x1b[K').rstrip('\r\n')
    assert len(line) < 40
    assert line.startswith('/a/very')
    assert line.endswith(' 30/30 of which none')


def test_a_progress_line_in_a_log_has_no_control_characters():
    done = subprocess.run([sys.executable, '-c', PROGRESS], capture_output=True, text=True, check=True)
    assert done.stderr == '/a/very/long/path' * 10 + ': 30/30 of which none\n'
