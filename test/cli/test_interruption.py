# SPDX-License-Identifier: Apache-2.0
"""Signals end a command with the status that says so, whatever drops the exception that they raise."""

import signal
import subprocess
import sys

import pytest

START = """
import signal, sys, time, weakref
from pathlib import Path
from lw_refinenet_ros.cli.interruption import held, run_interruptible

def wait():
    print('waiting', flush=True)
    time.sleep(600)
"""

DROPPED = {
    'a destructor': """
class Guard:
    def __del__(self):
        wait()

def command():
    guard = Guard()
    del guard
    wait()
""",
    'a callback of a weak reference': """
class Referred:
    pass

def command():
    referred = Referred()
    reference = weakref.ref(referred, lambda _: wait())
    del referred
    wait()
""",
    'a library': """
def command():
    try:
        wait()
    except:
        pass
    wait()
""",
}


def start(program, **options):
    command = [sys.executable, '-c', f'{START}{program}\nsys.exit(run_interruptible(command))']
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def ignore_interrupts():
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('dropped_by', DROPPED)
def test_a_signal_ends_the_command_though_its_exception_is_dropped_by(dropped_by, number):
    with start(DROPPED[dropped_by]) as process:
        process.stdout.readline()
        process.send_signal(number)
        assert process.stdout.readline() == 'waiting\n', 'the exception was not dropped'
        assert process.wait() == 128 + number
        assert process.stderr.read().count('Traceback') == 0


CLEANING = """
def command():
    try:
        wait()
    finally:
        print('cleaning', flush=True)
        sys.stdin.readline()
        print('cleaned', flush=True)
"""


def test_a_second_signal_does_not_end_the_cleaning_up_after_the_first():
    with start(CLEANING, stdin=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == 'cleaning\n'
        process.send_signal(signal.SIGINT)
        process.stdin.write('\n')
        process.stdin.flush()
        assert process.stdout.readline() == 'cleaned\n'
        assert process.wait() == 143


HOLDING = """
def command():
    with held():
        print('holding', flush=True)
        sys.stdin.readline()
        print('done', flush=True)
    wait()
"""


def test_a_signal_that_is_held_back_ends_the_command_after_that():
    with start(HOLDING, stdin=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.stdin.write('\n')
        process.stdin.flush()
        assert process.stdout.read() == 'done\n'
        assert process.wait() == 130


def test_a_signal_during_an_import_ends_the_command_after_it(tmp_path):
    """C++ code that a module runs may abort on an exception: PyTorch's import did, with status -6."""
    (tmp_path / 'slow.py').write_text(
        'import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nprint("imported", flush=True)'
    )
    with start(
        f'def command():\n    sys.path.insert(0, {str(tmp_path)!r})\n    import slow\n    wait()'
    ) as process:
        assert process.wait() == 128 + signal.SIGINT
        assert process.stdout.readline() == 'imported\n'


def test_an_ignored_interrupt_stays_ignored_and_a_request_to_end_is_not():
    with start('command = wait', preexec_fn=ignore_interrupts) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 143


def test_without_a_signal_the_command_says_its_status_and_raises_its_errors():
    assert start('def command():\n    return 3').wait() == 3
    with start('def command():\n    sys.exit(2)') as process:
        assert process.wait() == 2
    with start('def command():\n    raise RuntimeError("told")') as process:
        assert 'RuntimeError: told' in process.stderr.read()
