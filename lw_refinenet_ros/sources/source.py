# SPDX-License-Identifier: Apache-2.0
"""What every source of frames is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from lw_refinenet_ros.image.frame import Frame, Pixels

if TYPE_CHECKING:
    from rosbags.interfaces import Qos

__all__ = ['START_NS', 'OnError', 'Source', 'SourceError', 'SourceFrame', 'StampNames', 'TopicError']

STAMP_DIGITS = 19  # of every stamp in a name, so that names sort by time: as many as a clock's has
START_NS = 1_000_000_000  # the first stamp of what has no stamps: zero means "not set" in ROS
FRAME_ID = 'camera'  # of what has none


class SourceError(ValueError):
    """A source that cannot be opened or read further, in one line that names it and the position."""


class TopicError(SourceError):
    """A bag that has no such topic of images."""


OnError = Callable[[SourceError], None]


@dataclass(frozen=True, eq=False)
class SourceFrame(Frame):
    """A frame of a source.

    Header stamps may be zero, repeat or run back. Use `log_ns` for the pace of the recording and
    `name` for one name per frame.

    Attributes:
        log_ns: when it was recorded; without a log, as in videos, `stamp_ns`.
        name: unique in its source and the same each time it is read: the stem of an image file, else the
            stamp in ns, of `STAMP_DIGITS`; of a stamp that was there before, STAMP_INDEX, where the index
            counts the source's frames from 0, unreadable ones too. It is fit for a file name.
        where: source, topic and position, for messages: f'{frame.where}: {error}'.
    """

    log_ns: int = 0
    name: str = ''
    where: str = ''

    @classmethod
    def of(cls, frame: Frame, *, log_ns: int, name: str, where: str) -> SourceFrame:
        """Return a frame with these, sharing its data."""
        values = {field.name: getattr(frame, field.name) for field in fields(Frame)}
        return cls(**values, log_ns=log_ns, name=name, where=where)

    @classmethod
    def of_image(cls, bgr: Pixels, stamp_ns: int, name: str, where: str) -> SourceFrame:
        """Return uint8 (H, W, 3) BGR of a source that has neither headers nor a log."""
        frame = Frame.from_array(bgr, stamp_ns=stamp_ns, frame_id=FRAME_ID, encoding='bgr8')
        return cls.of(frame, log_ns=stamp_ns, name=name, where=where)


class StampNames:
    """Names frames by their stamps, each name once; 8 bytes of memory for a frame whose stamp rises."""

    def __init__(self) -> None:
        self._rising = array('q')
        self._others: set[int] = set()

    def name(self, stamp_ns: int, index: int) -> str:
        """Return the stamp or, if it was there before, STAMP_INDEX."""
        name = f'{stamp_ns:0{STAMP_DIGITS}}'
        if not self._rising or stamp_ns > self._rising[-1]:
            self._rising.append(stamp_ns)
            return name
        place = bisect_left(self._rising, stamp_ns)
        if self._rising[place] == stamp_ns or stamp_ns in self._others:
            return f'{name}_{index}'
        self._others.add(stamp_ns)
        return name


class Source(ABC):
    """Stamped frames in the order they were recorded; a context manager that can be iterated over again.

    One frame that cannot be read costs only itself where `on_error` is given: that takes the error, and
    the iterator goes on with the next frame. The pixels of a frame are looked at by whoever uses them
    (`color_image(frame)` may raise a FrameError): the same is to be done there, with `frame.where`.

    Attributes:
        description: what it is, in one line.
        topic: the name of the images.
        length: frames, or None when unknown.
        rate_hz: frames per second, of a bag averaged over its whole length, or None when unknown.
        offered: the quality of service that the topic's publishers offered, as it was recorded.

    Args:
        on_error: takes what cannot be read, a SourceError of one line that names source, topic and position;
            reading goes on with the next frame, if there can be one. Without it, the first is raised.
    """

    def __init__(self, description: str, on_error: OnError | None = None) -> None:
        self.description = description
        self.topic = 'image'
        self.length: int | None = None
        self.rate_hz: float | None = None
        self.offered: tuple[Qos, ...] = ()
        self._on_error = on_error
        self._stack = ExitStack()  # of what is held open

    @abstractmethod
    def __iter__(self) -> Iterator[SourceFrame]: ...

    def close(self) -> None:
        """Close all that is held open; may be called twice."""
        self._stack.close()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _report(self, error: SourceError, cause: BaseException | None = None) -> None:
        """Raise an error of the stream, or hand it to whoever wants to go on."""
        if self._on_error is None:
            raise error from cause
        self._on_error(error)
