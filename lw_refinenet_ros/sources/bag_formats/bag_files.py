# SPDX-License-Identifier: Apache-2.0
"""The files that make up a bag, whole or not, as one."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from rosbags.interfaces import Qos

from lw_refinenet_ros.one_line import one_line
from lw_refinenet_ros.sources.bag_formats.bag_metadata import METADATA, Metadata, read_metadata
from lw_refinenet_ros.sources.bag_formats.db3_file import read_db3, summarize_db3
from lw_refinenet_ros.sources.bag_formats.mcap_file import McapFile
from lw_refinenet_ros.sources.bag_formats.ros1_file import Ros1File
from lw_refinenet_ros.sources.bag_formats.storage import Messages, Summary, Topic, Wanted
from lw_refinenet_ros.sources.bag_formats.unpacking import unpack_file

__all__ = ['BAG_SUFFIXES', 'BagFiles', 'bag_suffix', 'bags_in']

_PACKED, _ACTIVE = '.zstd', '.active'  # compressed as a whole; of a recorder that writes it, or was killed


class _Format(NamedTuple):
    summarize: Callable[[Path], Summary]
    read: Callable[[Path, Wanted], Messages]


_FORMATS = {
    '.db3': _Format(summarize_db3, read_db3),
    '.mcap': _Format(McapFile.summarize, McapFile.read),
    '.bag': _Format(Ros1File.summarize, Ros1File.read),
}
BAG_SUFFIXES = tuple(_FORMATS)


def bag_suffix(path: Path) -> str:
    """Return the format of a file of a bag by its name, such as '.mcap' of BAG_0.MCAP.zstd; or ''."""
    name = path.name.lower()
    for ending in (_PACKED, _ACTIVE):
        name = name.removesuffix(ending)
    suffix = Path(name).suffix
    return suffix if suffix in _FORMATS else ''


def bags_in(folder: Path) -> list[Path]:
    """List the files of bags in a folder, bag_10 after bag_9; not hidden ones, nor macOS's ._bag_0.db3."""
    files = [path for path in folder.iterdir() if bag_suffix(path) and not path.name.startswith('.')]
    return sorted(files, key=lambda path: re.sub(r'\d+', lambda number: number[0].zfill(20), path.name))


class BagFiles:
    """The files of one recording; a context manager, since what is compressed is unpacked to temporary files.

    Args:
        path: a file, or a folder of files with or without metadata.yaml.

    Attributes:
        counts: of the messages of each topic; a topic's type is '' where neither file nor metadata names it.
        duration_ns: from the first message to the last, of any topic.
        fault: what is damaged or missing, or ''; more may be found when the messages are read.

    Raises:
        ValueError: no file of the bag can be read.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.fault = ''
        self._types: dict[str, str] = {}
        self._files: list[tuple[Path, _Format]] = []
        with ExitStack() as stack:
            listed = self._listed(path)
            summaries = []
            for file in listed:
                where = f'{file.name}: ' if len(listed) > 1 else ''
                form = _FORMATS[bag_suffix(file)]
                try:
                    plain = self._plain(file, stack)
                    summaries.append(form.summarize(plain))
                except ValueError as error:
                    self._note(f'{where}{error}')
                else:
                    self._files.append((plain, form))
                    self._note(summaries[-1].fault and f'{where}{summaries[-1].fault}')
            if not summaries:
                raise ValueError(self.fault)
            self._stack = stack.pop_all()
        first_ns = min(summary.first_ns for summary in summaries)
        self.duration_ns = max(0, max(summary.last_ns for summary in summaries) - first_ns)
        self.counts: dict[Topic, int] = {}
        self._merge(summaries)

    def _listed(self, path: Path) -> list[Path]:
        """List the files: those of metadata.yaml or, where it is missing or wrong, all of the folder."""
        folder = path if path.is_dir() else path.parent
        metadata: Metadata | None = None
        try:
            if (folder / METADATA).exists():
                metadata = read_metadata(folder)
                self._types = metadata.types
        except ValueError as error:
            if path.is_dir():
                self._note(str(error))
        if not path.is_dir():
            return [path]
        present = bags_in(folder)
        if metadata is None:
            return present
        # Somebody may have compressed or unpacked a file since.
        named = {file.name.removesuffix(_PACKED): file for file in present}
        files = [named.get(name.removesuffix(_PACKED)) for name in metadata.files]
        missing = [name for name, file in zip(metadata.files, files) if file is None]
        if missing:
            self._note(f'{missing[0]} is missing')
        return present if missing else [file for file in files if file is not None]

    def _plain(self, file: Path, stack: ExitStack) -> Path:
        """Unpack a file, if it is compressed, as far as it goes."""
        if file.suffix.lower() != _PACKED:
            return file
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix='lw_refinenet_')))
        self._note(unpack_file(file, folder / file.stem))
        return folder / file.stem

    def _merge(self, summaries: Sequence[Summary]) -> None:
        """Join the topics of all files: a topic of one type is one, whatever its publishers offered where."""
        offered: dict[Topic, list[Qos]] = {}
        counts: Counter[Topic] = Counter()
        for summary in summaries:
            for topic, count in summary.counts.items():
                key = self._bare(topic)
                counts[key] += count
                offered.setdefault(key, []).extend(topic.offered)
        for key, count in counts.items():
            self.counts[key._replace(offered=tuple(dict.fromkeys(offered[key])))] = count

    def _bare(self, topic: Topic) -> Topic:
        return topic._replace(msgtype=topic.msgtype or self._types.get(topic.name, ''), offered=())

    def _note(self, fault: str) -> None:
        self.fault = self.fault or fault

    def messages(self, topics: Collection[Topic]) -> Messages:
        """Read the messages of these topics; in the end raise a ValueError if something is damaged."""
        wanted = {self._bare(topic) for topic in topics}
        fault = self.fault
        for path, form in self._files:
            try:
                for message in form.read(path, lambda topic: self._bare(topic) in wanted):
                    yield message._replace(topic=self._bare(message.topic))
            except ValueError as error:
                where = f'{path.name}: ' if len(self._files) > 1 else ''
                fault = fault or f'{where}{error}'
        if fault:
            raise ValueError(one_line(fault))

    def close(self) -> None:
        """Remove temporary files."""
        self._stack.close()
