# SPDX-License-Identifier: Apache-2.0
"""Read ahead in a thread, so that decoding overlaps with whatever is done with the frames."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import closing, suppress
from queue import Empty, Queue
from typing import TypeVar

__all__ = ['prefetched']

Item = TypeVar('Item')
DEPTH = 2  # items that wait: one is enough to overlap, a second evens out


def prefetched(items: Generator[Item, None, None]) -> Generator[Item, None, None]:
    """Yield the items of a generator, which runs wholly in a thread of its own and ends with this one.

    What it raises is raised here, after the items that came before.
    """
    queue: Queue[tuple[Item | None, BaseException | None]] = Queue(DEPTH)
    stopped = threading.Event()

    def fill() -> None:
        try:
            with closing(items):
                for item in items:
                    queue.put((item, None))
                    if stopped.is_set():
                        return
            queue.put((None, StopIteration()))
        except BaseException as error:
            queue.put((None, error))

    thread = threading.Thread(target=fill, name='prefetch', daemon=True)
    thread.start()
    try:
        while True:
            item, error = queue.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        while thread.is_alive():
            with suppress(Empty):
                queue.get(timeout=0.05)
        thread.join()
