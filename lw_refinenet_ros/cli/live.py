# SPDX-License-Identifier: Apache-2.0
"""Run player, node and recorder in separate processes on loopback, and collect their records."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO

from lw_refinenet_ros.cli.interruption import held
from lw_refinenet_ros.cli.options import NODE, Progress
from lw_refinenet_ros.cli.play import UNREADABLE
from lw_refinenet_ros.cli.terminal import SAID
from lw_refinenet_ros.evaluation.live import Arrival, LiveRun, Published
from lw_refinenet_ros.node.process import middleware
from lw_refinenet_ros.node.process.fast_dds import remove_dead_segments
from lw_refinenet_ros.node.process.require_ros import require_ros
from lw_refinenet_ros.resources import share_path

__all__ = ['LiveError', 'die_with_parent', 'ros_environment', 'run_live']

START_S = 60.0  # for the node and the recorder to start
FINISH_S = 30.0  # for the recorder to finish writing
STOP_S = 5.0  # for a process to end after it was asked to
PR_SET_PDEATHSIG = 1
# `python -m`, which would find modules in the current folder first
RUN_MODULE = (
    'import runpy, sys; del sys.path[0], sys.argv[0]; runpy.run_module(sys.argv[0], None, "__main__", True)'
)
CONDITIONS = ('weights', 'architecture', 'engine', 'device', 'precision')  # that the node reports


class LiveError(ValueError):
    """A process of the live run died or did not start; the message has the last line of its log."""


class _Process:
    """A child process that ends with its parent, however that ends; its output goes to a log file."""

    def __init__(self, name: str, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.output = folder / f'{name}.out'
        self.log = folder / f'{name}.log'
        with self.output.open('w') as out, self.log.open('w') as err:
            self.process = subprocess.Popen(
                [sys.executable, '-c', RUN_MODULE, *arguments],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env=environment,
                preexec_fn=die_with_parent,
            )

    def check(self) -> None:
        """Raise if the process has died."""
        status = self.process.poll()
        if status is not None and status != 0:
            raise LiveError(self._epitaph(f'ended with status {status}'))

    def wait_for(self, word: str, seconds: float) -> None:
        """Wait until the process has printed a word on standard output."""
        end = time.monotonic() + seconds
        while word not in self.output.read_text():
            self.check()
            if time.monotonic() > end:
                raise LiveError(self._epitaph(f'did not print {word!r} within {seconds:.0f} s'))
            time.sleep(0.05)

    def stop(self) -> None:
        """Terminate the process, by force if need be."""
        with held():
            if self.process.poll() is None:
                self.process.terminate()  # SIGINT is ignored where a shell's script put us in the background
                try:
                    self.process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()
            if self.process.stdin is not None:
                self.process.stdin.close()

    def _epitaph(self, what: str) -> str:
        said = (self.log, self.output)  # the middleware writes its errors to standard output
        texts = [file.read_text(errors='replace') for file in said]
        lines = next((found for text in texts if (found := text.strip().splitlines())), [])
        last = f'; its last output: {lines[-1].strip()}' if lines else ''
        return f'the {self.name} {what}{last}'


def die_with_parent() -> None:
    """Let the kernel end this process, a child just forked, when its parent ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def ros_environment() -> dict[str, str]:
    """Return the children's environment: loopback, a domain of their own unless one is set, large images."""
    environment = dict(os.environ)
    environment.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))
    environment['PYTHONUNBUFFERED'] = '1'
    # Warnings of ROS, as errors, would end the processes; and nobody but they discovers them.
    for name in ('PYTHONWARNINGS', *middleware.DISCOVERY):
        environment.pop(name, None)
    in_use = environment.get('RMW_IMPLEMENTATION') or middleware.DEFAULT
    environment |= middleware.environment(in_use, share_path('config'), local=True)
    if middleware.distribution() == 'humble':
        environment['ROS_LOCALHOST_ONLY'] = '1'
    else:
        environment['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    return environment


def run_live(
    source: str,
    topic: str,
    bag: Path,
    parameters: Mapping[str, str | int | float],
    frames: int | None,
    *,
    source_topic: str | None = None,
    rate: float = 1.0,
    outputs: Sequence[str] = ('label', 'overlay'),
) -> LiveRun:
    """Play a source through the node and record what it publishes.

    Args:
        source: as for `open_source`.
        topic: the topic to play to.
        bag: the mcap file to write.
        parameters: parameters of the node.
        frames: number of frames, for the progress; None if unknown.
        source_topic: the topic to read from a bag with several.
        rate: playback speed; 1 is real time.
        outputs: topics of the node to record, including the labels.

    Raises:
        LiveError: a process died or did not start.
        OSError: shared memory is full.
    """
    remove_dead_segments()
    require_ros()
    environment = ros_environment()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix='lw_refinenet_')))
        environment['ROS_LOG_DIR'] = str(folder)  # the home may not be writable

        def start(name: str, *arguments: str) -> _Process:
            with held():
                process = _Process(name, list(arguments), folder, environment)
                stack.callback(process.stop)
            return process

        ros = ['--ros-args', '-r', f'image:={topic}']
        for name, value in parameters.items():
            ros += ['-p', f'{name}:={json.dumps(value, ensure_ascii=False)}']  # which is YAML too
        print('starting the node and the recorder', file=sys.stderr)
        node = start('node', 'lw_refinenet_ros.node.main', *ros)
        log, sent = folder / 'recorder.json', folder / 'sent.jsonl'
        recorder = start(
            'recorder',
            'lw_refinenet_ros.node.replay.recorder',
            *('--node', NODE, '--bag', str(bag.resolve()), '--log', str(log)),
            *('--first-frame-of', source, '--first-frame-to', topic),
            *(('--topic', source_topic) if source_topic else ()),
            *('--outputs', *outputs),
        )
        _wait_until_ready(node, recorder)
        player = start(
            'player', 'lw_refinenet_ros.cli.main', 'play', source, '--output-topic', topic,
            '--wait-for-subscriber', '--log', str(sent), '--rate', str(rate),
            *(('--topic', source_topic) if source_topic else ()),
        )  # fmt: skip
        unreadable = _follow(player, (node, recorder), sent, frames)
        assert recorder.process.stdin is not None
        recorder.process.stdin.close()
        _wait_for_end(recorder, node)
        return replace(_collect(sent, log), unreadable=unreadable)


def _wait_until_ready(node: _Process, recorder: _Process) -> None:
    end = time.monotonic() + START_S
    while True:
        node.check()
        log = node.log.read_text(errors='replace')
        if 'not configured: ' in log:
            reason = log.split('not configured: ', 1)[1].splitlines()[0]
            raise LiveError(f'the node was not configured: {reason}')
        try:
            recorder.wait_for('ready', 0.5)
        except LiveError:
            recorder.check()
            if time.monotonic() > end:
                raise LiveError(
                    f'the node was not active and warm within {START_S:.0f} s: the machine is busy or slow, '
                    f'another {NODE} runs in this ROS_DOMAIN_ID, or the loopback interface is down'
                ) from None
        else:
            return


def _follow(
    player: _Process, others: tuple[_Process, ...], sent: Path, frames: int | None
) -> tuple[str, ...]:
    """Show the progress until the player is done; raise if a process dies meanwhile.

    Returns:
        what the player said of frames that it could not read.
    """
    progress: Progress | None = None  # until the first frame: the player starts for a second or more
    with ExitStack() as stack:
        log: IO[str] | None = None
        lines = 0
        while True:
            status = player.process.poll()
            if log is None and sent.is_file():
                log = stack.enter_context(sent.open())
            if log is not None:
                lines += log.read().count('\n')
            if lines:
                progress = progress or Progress('played through the node:', frames)
                progress.show(lines)
            played = bool(status) and UNREADABLE in player.output.read_text()
            if status and not played:
                player.check()
            for process in others:
                process.check()
                if process.process.poll() is not None:
                    raise LiveError(f'the {process.name} ended before the player did')
            if status is not None:
                said = player.log.read_text(errors='replace').splitlines() if played else []
                return tuple(line.removeprefix(SAID) for line in said if line.startswith(SAID))
            time.sleep(0.1)


def _wait_for_end(recorder: _Process, node: _Process) -> None:
    end = time.monotonic() + FINISH_S
    while recorder.process.poll() is None:
        node.check()
        if time.monotonic() > end:
            raise LiveError(f'the recorder was not done within {FINISH_S:.0f} s')
        time.sleep(0.05)
    recorder.check()


def _collect(sent: Path, log: Path) -> LiveRun:
    published = [Published(**json.loads(line)) for line in sent.read_text().splitlines()]
    record = json.loads(log.read_text())
    results = [Arrival(*pair) for pair in record['arrivals']]
    conditions = {name: value for name, value in record['values'].items() if name in CONDITIONS}
    sequence = tuple(record['sequence']) if record['sequence'] else None
    return LiveRun(published, results, record['fates'], record['stages_ms'], conditions, sequence)
