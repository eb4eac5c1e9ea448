# SPDX-License-Identifier: Apache-2.0
"""A thread that works on the newest item of each key, never on a queue of old ones."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ['NewestWorker']

K = TypeVar('K')
T = TypeVar('T')


class NewestWorker(Generic[K, T]):
    """Calls `work` in one thread with all waiting items: the newest of each key since its last turn.

    Args:
        work: takes keys and their items, the longest waiting key first; must not raise.
    """

    def __init__(self, work: Callable[[list[tuple[K, T]]], None]) -> None:
        self._work = work
        self._changed = threading.Condition()
        self._items: dict[K, T] = {}  # in the order of their turns
        self._tasks: deque[Callable[[], None]] = deque()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name='inference', daemon=True)
        self._thread.start()

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits for the thread: neither an item nor `stop`."""
        return not (self._items or self._stopping)

    def put(self, key: K, item: T) -> T | None:
        """Store a key's newest item; return the one it supersedes, if that was still waiting."""
        with self._changed:
            superseded = self._items.get(key)
            self._items[key] = item  # a key that waits keeps its turn
            self._changed.notify()
        return superseded

    def call(self, task: Callable[[], None]) -> None:
        """Run a task in the thread before the next items; it must not raise."""
        with self._changed:
            self._tasks.append(task)
            self._changed.notify()

    def stop(self) -> None:
        """Finish the work in progress and all tasks, drop the waiting items, and end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._tasks or self._items)
                task = self._tasks.popleft() if self._tasks else None
                items: list[tuple[K, T]] = []
                if task is None:
                    if self._stopping:
                        return
                    items = list(self._items.items())
                    self._items.clear()
            if task is not None:
                task()
            else:
                self._work(items)
            del task, items  # not held while waiting: a message has its buffer as long as it is referred to
