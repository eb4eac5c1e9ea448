# SPDX-License-Identifier: Apache-2.0
"""A file of records, many of them in chunks: by its index and, where that is missing or wrong, without."""

from __future__ import annotations

import heapq
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, ClassVar, NamedTuple

from lw_refinenet_ros.files import open_regular
from lw_refinenet_ros.one_line import counted
from lw_refinenet_ros.sources.bag_formats.storage import Message, Messages, Summary, Topic, Wanted
from lw_refinenet_ros.sources.limits import MAX_CHUNK_BYTES

__all__ = ['Chunk', 'ChunkedFile', 'Index', 'Record', 'u16', 'u32', 'u64']


class Record(NamedTuple):
    """A record."""

    offset: int  # where it begins
    kind: int  # the format's number of its kind
    fields: Mapping[bytes, bytes]  # of its header, if it has one
    body: bytes  # as far as it is there
    whole: bool  # whether that is all


class Chunk(NamedTuple):
    """A chunk by the index: the log time of its first message, and where it begins."""

    first_ns: int
    offset: int


class Index(NamedTuple):
    """A file's index: topics and counts of messages by channel, log times, chunks."""

    topics: Mapping[Hashable, Topic]
    counts: Mapping[Hashable, int]
    first_ns: int
    last_ns: int
    chunks: Sequence[Chunk]

    def count(self, wanted: Wanted) -> int:
        """Count the messages of the wanted topics."""
        return sum(count for key, count in self.counts.items() if wanted(self.topics[key]))


class ChunkedFile(ABC):
    """One pass over a file.

    Attributes:
        topics: by channel, as far as the file was read.
    """

    MAGIC: ClassVar[bytes]
    CHUNK: ClassVar[int]  # the kinds of records
    KINDS: ClassVar[Collection[int]]  # that are looked at: attachments may be larger than memory
    DEFINITIONS: ClassVar[Collection[int]]  # of topics

    def __init__(self, path: Path, wanted: Wanted) -> None:
        self._path, self._wanted = path, wanted
        self.topics: dict[Hashable, Topic] = {}
        self._chosen: dict[Hashable, Topic] = {}  # those of them that are wanted
        self._done: set[int] = set()  # chunks, by where they begin
        self._fault = ''
        self._has_index = False

    @classmethod
    def summarize(cls, path: Path) -> Summary:
        """Read the index or, without one, count.

        Raises:
            ValueError: it is no such file.
        """
        with open_regular(path) as file:
            if file.read(len(cls.MAGIC)) != cls.MAGIC:
                raise ValueError(f'it does not begin with {cls.MAGIC!r}')
            index = cls._index(file, _size(file))
        counts: Counter[Topic] = Counter()
        first_ns, last_ns, fault = 2**63, 0, ''
        if index is not None:
            for key, topic in index.topics.items():
                counts[topic] += index.counts.get(key, 0)
            if any(counts.values()):  # else its times are 0
                first_ns, last_ns = index.first_ns, index.last_ns
            return Summary(counts, first_ns, last_ns)
        whole = cls(path, lambda _: True)
        try:
            for topic, log_ns, _ in whole.messages():
                counts[topic] += 1
                first_ns, last_ns = min(first_ns, log_ns), max(last_ns, log_ns)
        except ValueError as error:
            fault = str(error)
        return Summary({topic: counts[topic] for topic in whole.topics.values()}, first_ns, last_ns, fault)

    @classmethod
    def read(cls, path: Path, wanted: Wanted) -> Messages:
        """Read what can be read, then raise a ValueError that locates the damage, if there is any.

        A damaged chunk is passed over; of one that the end of the file cuts, what is there is read.
        """
        return cls(path, wanted).messages()

    @classmethod
    @abstractmethod
    def _index(cls, file: BinaryIO, size: int) -> Index | None:
        """Read the index; None if it is missing, damaged or incomplete."""

    @classmethod
    @abstractmethod
    def _records(
        cls, file: BinaryIO, size: int, kinds: Collection[int], done: Collection[int] = ()
    ) -> Iterator[Record]:
        """Read the records from here to `size`: of these kinds, and none that begins at one of `done`.

        Raises:
            ValueError: something else is there.
        """

    @abstractmethod
    def _unpacked(self, chunk: Record) -> bytes:
        """Return the records within a chunk, as far as it is there."""

    @abstractmethod
    def _take(self, record: Record) -> Message | None:
        """Define a topic, or return a message if it is wanted, else None."""

    @abstractmethod
    def _fault_of_end(self, last: Record | None, size: int, *, indexed: bool) -> str:
        """Describe the fault of a file that ends with this record, with a valid index or without."""

    def messages(self) -> Messages:
        """See `read`."""
        with open_regular(self._path) as file:
            size = _size(file)
            index = self._index(file, size)
            read, promised = 0, None
            if index is not None:
                self._has_index = True
                for key, topic in index.topics.items():
                    self._define(key, topic)
                promised = index.count(self._wanted)
                for message in self._in_log_order(file, size, index.chunks):
                    read += 1
                    yield message
            if self._fault or read != promised:
                for message in self._in_file_order(file, size):
                    read += 1
                    yield message
            if promised is not None and read != promised:
                self._note(f'its index lists {counted(promised, "message")}, {read} were found')
        if self._fault:
            raise ValueError(self._fault)

    def _define(self, key: Hashable, topic: Topic) -> None:
        self.topics[key] = topic
        if self._wanted(topic):
            self._chosen[key] = topic

    def _note(self, fault: str) -> None:
        self._fault = self._fault or fault

    def _in_log_order(self, file: BinaryIO, size: int, chunks: Iterable[Chunk]) -> Messages:
        """Read the chunks of the index and yield their messages by log time; equal ones stay in order.

        Held in memory is the chunk at hand, and what of others reaches into later ones.
        """
        chunks = sorted(chunks)
        held: list[tuple[int, int, Message]] = []
        count = bytes_held = 0
        for chunk, next_chunk in zip(chunks, [*chunks[1:], Chunk(2**64, 0)]):
            for message in self._indexed(file, size, chunk.offset):
                heapq.heappush(held, (message.log_ns, count, message))
                count, bytes_held = count + 1, bytes_held + len(message.data)
            while held and (held[0][0] < next_chunk.first_ns or bytes_held > MAX_CHUNK_BYTES):
                message = heapq.heappop(held)[2]
                bytes_held -= len(message.data)
                yield message

    def _indexed(self, file: BinaryIO, size: int, offset: int) -> Iterable[Message]:
        """Read a chunk that the index leads to."""
        if offset in self._done:
            return ()
        record = None
        if offset < size:
            file.seek(offset)
            with suppress(ValueError):
                record = next(self._records(file, size, (self.CHUNK,)), None)
        if record is None or record.offset != offset:
            self._note(f'its index points to byte {offset}, where there is no chunk')
            return ()
        return self._chunk(record)

    def _in_file_order(self, file: BinaryIO, size: int) -> Messages:
        """Read what was not read yet."""
        file.seek(len(self.MAGIC))
        with suppress(ValueError):  # met again below
            # Topics are defined outside of chunks too, where the chunk that has one is damaged.
            for record in self._records(file, size, self.DEFINITIONS):
                self._read_record(record)
        file.seek(len(self.MAGIC))
        last: Record | None = None
        try:
            for record in self._records(file, size, self.KINDS, self._done):
                last = record
                if record.kind == self.CHUNK:
                    yield from self._chunk(record)
                elif record.whole:
                    yield from self._read_record(record)
                if not record.whole:
                    too_large = len(record.body) == MAX_CHUNK_BYTES
                    why = f'larger than {MAX_CHUNK_BYTES} bytes' if too_large else f'cut short at byte {size}'
                    self._note(f'the record at byte {record.offset} is {why}')
        except ValueError as error:
            self._note(str(error))
        self._note(self._fault_of_end(last, size, indexed=self._has_index))

    def _chunk(self, chunk: Record) -> Sequence[Message]:
        """Read the wanted messages of a chunk by log time, as far as it is there."""
        self._done.add(chunk.offset)
        messages: list[Message] = []
        try:
            content = self._unpacked(chunk)
            for record in self._records(BytesIO(content), len(content), self.KINDS):
                if not record.whole:
                    break
                messages += self._read_record(record)
        except Exception as error:  # damaged bytes make decompressors raise nearly anything
            if chunk.whole:
                self._note(f'the record at byte {chunk.offset} is damaged: {_reason(error)}')
        return sorted(messages, key=lambda message: message.log_ns) if chunk.whole else messages

    def _read_record(self, record: Record) -> list[Message]:
        """Return the message of a record, if it has one; a damaged record costs only itself."""
        try:
            message = self._take(record)
            return [] if message is None else [message]
        except Exception as error:
            self._note(f'the record at byte {record.offset} is damaged: {_reason(error)}')
            return []


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) else f'{type(error).__name__}: {error}'


def u16(content: bytes, offset: int) -> int:
    """Read an unsigned little-endian number of 2 bytes."""
    return int.from_bytes(content[offset : offset + 2], 'little')


def u32(content: bytes, offset: int) -> int:
    """Read one of 4 bytes."""
    return int.from_bytes(content[offset : offset + 4], 'little')


def u64(content: bytes, offset: int) -> int:
    """Read one of 8 bytes."""
    return int.from_bytes(content[offset : offset + 8], 'little')
