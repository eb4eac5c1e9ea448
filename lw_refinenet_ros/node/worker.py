# SPDX-License-Identifier: Apache-2.0
"""The thread that owns the network: it takes the newest frame, never a queue of old ones."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ['NewestWorker']

T = TypeVar('T')


class NewestWorker(Generic[T]):
    """Calls `work` in one thread with the newest item offered since the last call.

    Args:
        work: takes one item; must not raise.

    """

    def __init__(self, work: Callable[[T], None]) -> None:
        self._work = work
        self._changed = threading.Condition()
        self._item: T | None = None
        self._task: Callable[[], None] | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name='inference', daemon=True)
        self._thread.start()

    def offer(self, item: T) -> T | None:
        """Hand over an item; gives back the one it supersedes, if that was still waiting."""
        with self._changed:
            superseded, self._item = self._item, item
            self._changed.notify()
        return superseded

    def call(self, task: Callable[[], None]) -> None:
        """Run a task in the thread before the next item; a task that still waits is replaced."""
        with self._changed:
            self._task = task
            self._changed.notify()

    def stop(self) -> None:
        """Let the item at work end, drop what waits, and end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._task or self._item is not None)
                if self._stopping:
                    return
                task, self._task = self._task, None
                item = None
                if task is None:
                    item, self._item = self._item, None
            if task is not None:
                task()
            elif item is not None:
                self._work(item)
