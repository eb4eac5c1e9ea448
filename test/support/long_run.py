# SPDX-License-Identifier: Apache-2.0
"""The real node in its own process, for runs of hours: its output is drained, its memory watched."""

import os
import signal
import tempfile
import threading
import time
from collections import deque
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))

from test.support.node_process import NodeProcess, pixels_of, stamp_of
from test.support.tiny_network import write_tiny_weights

__all__ = ['LongRun', 'node_under_test', 'pixels_of', 'stamp_of', 'tiny_weights']

PATIENCE_S = 120.0  # for anything to happen, on a busy machine too
PAGE_BYTES = os.sysconf('SC_PAGE_SIZE')


class LongRun(NodeProcess):
    """A node whose output is drained, so that it never waits for a reader; `said` has the last lines."""

    def __init__(self, **parameters: object) -> None:
        super().__init__(**parameters)
        self.said: deque[str] = deque(maxlen=200)
        self._reader = threading.Thread(target=self._drain, daemon=True)
        self._reader.start()

    def _drain(self) -> None:
        for line in self.process.stdout:
            self.said.append(line.rstrip())

    def spin_until(self, condition, what: str, patience_s: float = PATIENCE_S):
        """Process messages until a condition holds; the node must survive it."""
        try:
            return super().spin_until(condition, what, patience_s)
        except (AssertionError, ValueError) as error:
            raise AssertionError(
                f'{str(error).splitlines()[0]}; the node said last: {" | ".join(self.said)[-1000:]}'
            ) from error

    def stop(self, number: signal.Signals) -> tuple[int, float, str]:
        """Signal the node; return its exit status, the seconds until it ended and its last output."""
        started = time.monotonic()
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE_S)
        seconds = time.monotonic() - started
        self._reader.join()
        return status, seconds, '\n'.join(self.said)

    def memory_mb(self) -> float:
        """Return the resident memory of the node's process, less what it shares with others, in MB."""
        _, resident, shared = map(int, Path(f'/proc/{self.process.pid}/statm').read_text().split()[:3])
        return (resident - shared) * PAGE_BYTES / 1e6

    def threads(self) -> int:
        """Return the number of threads of the node's process."""
        return len(list(Path(f'/proc/{self.process.pid}/task').iterdir()))

    def spin_for(self, seconds: float) -> None:
        """Process messages for a while; the node must survive it."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            assert self.process.poll() is None, 'the node died: ' + ' | '.join(self.said)
            self.executor.spin_once(timeout_sec=left)

    def fates(self) -> dict[str, int]:
        """Return the frames by fate from diagnostics that begin after now."""
        for _ in range(2):  # the first may have been under way
            self.status = None
            self.spin_until(lambda: self.status, 'diagnostics')
        return {fate: count for fate, count in self.status[2].items() if count}


@contextmanager
def node_under_test(**parameters: object):
    """Run a node, active and settled, and end it."""
    node = LongRun(**parameters)
    try:
        node.wait_active()
        yield node
    finally:
        node.close()


@contextmanager
def tiny_weights():
    """Return the path of a small untrained network's file."""
    with tempfile.TemporaryDirectory() as folder:
        yield write_tiny_weights(Path(folder) / 'tiny.safetensors', seed=1)
