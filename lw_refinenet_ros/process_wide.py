# SPDX-License-Identifier: Apache-2.0
"""Settings of the whole process that several threads change at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ['ProcessWide']


class ProcessWide:
    """A setting that is changed while any thread is inside the `with` block.

    Args:
        change: changes the setting and returns what changes it back; called as the first thread comes, and
            what it returns as the last one goes.
    """

    def __init__(self, change: Callable[[], Callable[[], object]]) -> None:
        self._change, self._lock, self._inside = change, threading.Lock(), 0
        self._change_back: Callable[[], object] = lambda: None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._change_back = self._change()
            self._inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._change_back()
