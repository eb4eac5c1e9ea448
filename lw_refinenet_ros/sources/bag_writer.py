# SPDX-License-Identifier: Apache-2.0
"""Writes one bare mcap file that rosbag2 plays."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import McapWriter
from rosbags.typesys import Stores, get_typestore

from lw_refinenet_ros.files import naming, new_file
from lw_refinenet_ros.image.frame import Frame
from lw_refinenet_ros.sources.bag_formats.unpacking import zstd
from lw_refinenet_ros.sources.source import SourceError

__all__ = ['BagWriter', 'holds_results']

# Of zstd: labels shrink as with its default of 3, overlays by 10 % less and in two thirds of the time.
LEVEL = 1
RESULTS = ('label', 'confidence', 'color', 'overlay')  # the last parts of the topics of results


def holds_results(path: Path) -> bool:
    """Return whether a file is a bag that was written by a `BagWriter` and holds nothing but results."""
    try:
        with path.open('rb') as file:
            written_here = b'rosbags-' in file.read(64)  # the library, which the header names
        with Reader(path) as bag:
            return written_here and all(each.topic.rsplit('/', 1)[-1] in RESULTS for each in bag.connections)
    except Exception:  # damaged files make rosbags raise nearly anything
        return False


class BagWriter:
    """A context manager that writes a bag of one mcap file.

    The file gets its name when the context ends without an error; until then, and after an error, what was
    there before stays. Memory does not grow with the bag, besides about 200 bytes of index per MiB.

    Args:
        path: of the file, ending in .mcap; missing folders are created.
        compress: with zstd, chunk by chunk.

    Raises:
        SourceError: the path is not such.
    """

    def __init__(self, path: Path | str, *, compress: bool = False) -> None:
        self.path = Path(path)
        if self.path.suffix != '.mcap':
            raise SourceError(f'{self.path} must end in .mcap')
        self._compress = compress
        self._types = get_typestore(Stores.ROS2_HUMBLE)  # the oldest that is to play it
        self._connections: dict[tuple[str, str], Connection] = {}
        self._stack = ExitStack()

    def __enter__(self) -> BagWriter:
        with ExitStack() as stack:
            self._temporary = stack.enter_context(new_file(self.path))
            directory = stack.enter_context(
                TemporaryDirectory(
                    prefix='.', suffix='.tmp', dir=self.path.parent, ignore_cleanup_errors=True
                )
            )
            # Version 8 is the newest whose quality-of-service entries Humble reads too.
            self._bag = Writer(Path(directory) / self.path.stem, version=8, storage_plugin=StoragePlugin.MCAP)
            if self._compress:
                self._bag.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            stack.push(self._finish)
            stack.enter_context(self._bag)
            if self._compress:
                assert isinstance(self._bag.storage, McapWriter)
                self._bag.storage.compressor = partial(zstd.compress, level=LEVEL)
            self._stack = stack.pop_all()
        return self

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        """Take the closed file out of the folder that rosbags makes for a bag."""
        if kind is None:
            (self._bag.path / f'{self.path.stem}.mcap').replace(self._temporary)

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def write_image(self, topic: str, frame: Frame, offered: Sequence[Qos] = ()) -> None:
        """Write a sensor_msgs/Image, logged at its own stamp; for `offered` see `write_raw`."""
        types = self._types.types
        sec, nanosec = divmod(frame.stamp_ns, 1_000_000_000)
        stamp = types['builtin_interfaces/msg/Time'](sec=sec, nanosec=nanosec)
        message = types['sensor_msgs/msg/Image'](
            header=types['std_msgs/msg/Header'](stamp=stamp, frame_id=frame.frame_id),
            height=frame.height,
            width=frame.width,
            encoding=frame.encoding,
            is_bigendian=int(frame.is_bigendian),
            step=frame.step,
            data=frame.data,
        )
        msgtype = 'sensor_msgs/msg/Image'
        self.write_raw(topic, msgtype, self._types.serialize_cdr(message, msgtype), frame.stamp_ns, offered)

    def write_raw(
        self,
        topic: str,
        msgtype: str,
        cdr: bytes | memoryview,
        stamp_ns: int,
        offered: Sequence[Qos] = (),
    ) -> None:
        """Write a serialized message of any type that ROS 2 Humble's common interfaces have.

        Args:
            topic: its name.
            msgtype: such as std_msgs/msg/String.
            cdr: the message with its encapsulation header.
            stamp_ns: log time; bags have none before 1970, so a header's stamp of then is logged as 0.
            offered: the quality of service of the topic's publishers, taken from its first message; a player
                of bags offers it again.

        Raises:
            SourceError: the type is unknown.
        """
        connection = self._connections.get((topic, msgtype))
        if connection is None:
            if msgtype not in self._types.fielddefs:
                raise SourceError(f'cannot write {topic}: the definition of {msgtype} is unknown')
            connection = self._bag.add_connection(
                topic, msgtype, typestore=self._types, offered_qos_profiles=offered
            )
            self._connections[topic, msgtype] = connection
        with naming(self.path):
            self._bag.write(connection, max(stamp_ns, 0), cdr)
