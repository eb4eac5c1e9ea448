# SPDX-License-Identifier: Apache-2.0
"""What every source of frames is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rosbags.interfaces import Qos

    from lw_refinenet_ros.image.frame import Frame

__all__ = ['FRAME_ID', 'START_NS', 'OnError', 'Source', 'SourceError']

START_NS = 1_000_000_000  # the first stamp of what has no stamps: zero means "not set" in ROS
FRAME_ID = 'camera'  # of what has none


class SourceError(ValueError):
    """A source that cannot be opened or read further: one line that says what and where."""


OnError = Callable[[SourceError], None]


class Source(ABC):
    """Stamped frames in the order they were recorded; a context manager that can be iterated over again.

    Attributes:
        description: what it is, in one line.
        topic: the name of the images.
        length: frames, or None when unknown.
        rate_hz: frames per second, of a bag averaged over its whole length, or None when unknown.
        offered: the quality of service that the topic's publishers offered, as it was recorded.

    Args:
        on_error: takes what cannot be read, and reading goes on with the next frame, if there can be one.
            Without it, the first such error is raised.

    """

    def __init__(self, description: str, *, topic: str = 'image', on_error: OnError | None = None) -> None:
        self.description = description
        self.topic = topic
        self.length: int | None = None
        self.rate_hz: float | None = None
        self.offered: tuple[Qos, ...] = ()
        self._on_error = on_error
        self._stack = ExitStack()  # of what is held open

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None:
        """Give back what is held open; may be called twice."""
        self._stack.close()

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _report(self, error: SourceError, cause: BaseException | None = None) -> None:
        """Raise an error of the stream, or hand it to whoever wants to go on."""
        if self._on_error is None:
            raise error from cause
        self._on_error(error)
