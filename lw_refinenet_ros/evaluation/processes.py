# SPDX-License-Identifier: Apache-2.0
"""Evaluate several recordings at once, each in a process of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from multiprocessing import connection

from lw_refinenet_ros.evaluation.recording import Done, Failed, Recording, evaluate_recording

__all__ = ['evaluate_in_processes']

Answer = Done | Failed | ValueError | tuple[int, 'int | None']  # the last: frames done, and all


def evaluate_in_processes(
    recordings: Sequence[Recording], jobs: int, progress: Callable[[int, int | None], None]
) -> list[Done | Failed]:
    """Evaluate recordings, at most `jobs` at a time; the results are in the order of the recordings.

    The processes end with this one, whatever ends it.

    Args:
        recordings: what to evaluate.
        jobs: processes.
        progress: called with the number of finished frames and, once it is known, their total.

    Raises:
        ValueError: what `evaluate_recording` raises, or a process died.
    """
    waiting = list(enumerate(recordings))[::-1]
    results: dict[int, Done | Failed] = {}
    counts: list[tuple[int, int | None]] = [(0, None)] * len(recordings)
    with ExitStack() as stack:
        workers = [_Worker(stack) for _ in range(min(jobs, len(recordings)))]
        while len(results) < len(recordings):
            for worker in workers:
                if worker.at is None and waiting:
                    worker.start(*waiting.pop())
            for ready in connection.wait([worker.pipe for worker in workers if worker.at is not None]):
                worker = next(worker for worker in workers if worker.pipe is ready)
                assert worker.at is not None
                answer = worker.answer()
                if isinstance(answer, ValueError):
                    raise answer
                if isinstance(answer, tuple):
                    counts[worker.at] = answer
                    known = [count for _, count in counts if count is not None]
                    total = sum(known) if len(known) == len(counts) else None
                    progress(sum(done for done, _ in counts), total)
                else:
                    results[worker.at], worker.at = answer, None
    return [results[index] for index in range(len(recordings))]


class _Worker:
    """A process that evaluates one recording after the other; it ends with the stack.

    Attributes:
        pipe: to the process.
        at: the number of the recording it works at, if any.
    """

    def __init__(self, stack: ExitStack) -> None:
        context = multiprocessing.get_context('spawn')  # a forked process may not use threads or CUDA
        self.pipe, theirs = context.Pipe()
        self.at: int | None = None
        self._name = ''
        self._process = context.Process(target=_work, args=(theirs,), daemon=True)
        self._process.start()
        stack.callback(self._process.join)
        stack.callback(self._process.kill)
        theirs.close()

    def start(self, at: int, recording: Recording) -> None:
        self.at, self._name = at, recording.name
        with suppress(OSError):  # a process that died is reported when it should answer
            self.pipe.send(recording)

    def answer(self) -> Answer:
        """Receive what the process sent."""
        try:
            answer: Answer = self.pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            raise ValueError(
                f'the process that evaluated {self._name} died with status {self._process.exitcode}: '
                'with --resume nothing is lost; fewer --jobs need less memory'
            ) from error
        return answer


def _work(pipe: connection.Connection) -> None:
    """Evaluate the recordings that arrive on the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of Ctrl-C, the parent decides what follows
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        recording: Recording = pipe.recv()
        try:
            pipe.send(evaluate_recording(recording, lambda done, length: pipe.send((done, length))))
        except (ValueError, OSError) as error:  # in a form that every exception can be sent in
            pipe.send(ValueError(f'{recording.name}: {error}'))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
