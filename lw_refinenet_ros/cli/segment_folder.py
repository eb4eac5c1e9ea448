# SPDX-License-Identifier: Apache-2.0
"""The output folder of `segment`: results of several sources neither collide nor replace foreign files."""

from __future__ import annotations

import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from lw_refinenet_ros.cli.outputs import SEGMENTED, Output, check_outputs
from lw_refinenet_ros.files import write_bytes, write_json
from lw_refinenet_ros.image.label_png import write_label_png
from lw_refinenet_ros.one_line import counted
from lw_refinenet_ros.sources.images import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from lw_refinenet_ros.inference.segmenter import Segmentation

__all__ = ['SegmentFolder', 'places', 'unique_names']

KINDS = ('labels', 'overlays')
MASKS = 'masks'  # where they are asked for
LIST = 'segment.json'
WRITERS = 4  # threads
MOST_PENDING = 16  # results waiting to be written


def unique_names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each path, unique on any file system.

    The name is the path's stem (of a folder, its name) if that is unique; otherwise, as far as needed, the
    full name, the folder's name and the stem, both names, and a number.
    """
    ways: list[Callable[[Path], str]] = [
        lambda path: path.name if path.is_dir() else path.stem,
        lambda path: path.name,
        lambda path: f'{path.parent.name}-{path.stem}',
        lambda path: f'{path.parent.name}-{path.name}',
    ]
    names = [ways[0](path) for path in paths]
    for way in ways[1:]:
        count = Counter(name.casefold() for name in names)
        names = [way(path) if count[name.casefold()] > 1 else name for path, name in zip(paths, names)]
    taken: set[str] = set()
    for index, name in enumerate(names):
        number = 2
        while names[index].casefold() in taken:
            names[index] = f'{name}-{number}'
            number += 1
        taken.add(names[index].casefold())
    return names


def places(sources: Sequence[str]) -> list[str]:
    """Return the place of each source's results below labels/ and overlays/; {} stands for a frame's name.

    Raises:
        ValueError: a source is given twice.
    """
    if len(sources) == 1:
        return ['{}']
    paths = [
        Path(name.replace(':', '-') if name.startswith('camera:') else os.path.realpath(name))
        for name in sources
    ]
    if twice := [name for name, path in zip(sources, paths) if paths.count(path) > 1]:
        raise ValueError(f'{twice[0]} is given twice')
    images = [path for path in paths if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES]
    others = [path for path in paths if path not in images]
    names = {path: _escaped(name) for path, name in zip(images, unique_names(images))}
    names |= {path: f'{_escaped(name)}/{{}}' for path, name in zip(others, unique_names(others))}
    return [names[path] for path in paths]


def _escaped(name: str) -> str:
    return name.replace('{', '{{').replace('}', '}}')


class SegmentFolder:
    """A folder with labels/, overlays/ and a list of their sources.

    Args:
        path: the folder.
        sources: files, folders and cameras.
        mask_classes: of the masks in masks/; without any, there are none.

    Attributes:
        earlier: names of the results of earlier runs that were not written again so far.

    Raises:
        ValueError: results would replace other files or mix with those of other sources.
    """

    def __init__(self, path: Path, sources: Sequence[str], mask_classes: Sequence[str] = ()) -> None:
        self.path, self.mask_classes = path, mask_classes
        self._sources = [name if name.startswith('camera:') else os.path.realpath(name) for name in sources]
        check_outputs([Output('--output', path / LIST, SEGMENTED)], sources)
        there = {kind: self._there(kind) for kind in (*KINDS, *([MASKS] if mask_classes else ()))}
        listed = self._listed()
        for kind, files in there.items():
            if files and listed is None:
                raise ValueError(
                    f'--output {path}: {kind}/ holds {counted(len(files), "file")} that segment did not '
                    f'make, such as {files[0].name}: choose another folder'
                )
        if any(there.values()) and listed != self._sources:
            raise ValueError(
                f'--output {path} holds the results of {", ".join(listed or ())}: choose another folder'
            )
        labels = path / 'labels'
        self.earlier = {str(file.relative_to(labels).with_suffix('')) for file in labels.rglob('*.png')}

    def _there(self, kind: str) -> list[Path]:
        """List the contents of a results folder; a link or an input folder is refused."""
        folder = self.path / kind
        if folder.is_symlink():
            raise ValueError(f'--output {self.path}: {kind}/ is a link, not followed: choose another folder')
        for source in self._sources:
            if Path(source).is_relative_to(folder.resolve()):
                raise ValueError(f'--output {self.path} would replace the input {source}: choose another')
        return sorted(folder.iterdir()) if folder.is_dir() else []

    def _listed(self) -> list[str] | None:
        """Return the sources of the existing results; None if the list is missing or damaged."""
        try:
            listed = json.loads((self.path / LIST).read_text('utf-8'))['sources']
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return [str(source) for source in listed] if isinstance(listed, list) else None

    @contextmanager
    def writing(self) -> Iterator[Callable[[str, Segmentation, float], None]]:
        """Yield a function that writes a result under a name in the background.

        Its arguments are the name, the result and the opacity of the overlay. Flushing a file to disk takes
        longer than encoding it; in threads of their own, the writers cost next to nothing.
        """
        pending: deque[Future[None]] = deque()
        with ThreadPoolExecutor(WRITERS) as pool:

            def write(name: str, result: Segmentation, alpha: float) -> None:
                self.earlier.discard(name)
                pending.append(pool.submit(self._write, name, result, alpha))
                while len(pending) > MOST_PENDING:
                    pending.popleft().result()

            yield write
            for each in pending:
                each.result()

    def _write(self, name: str, result: Segmentation, alpha: float) -> None:
        overlay = cv2.cvtColor(result.overlay(alpha), cv2.COLOR_RGB2BGR)
        jpeg = cv2.imencode('.jpg', overlay)[1].tobytes()
        write_bytes(self.path / 'overlays' / f'{name}.jpg', jpeg)
        write_label_png(self.path / 'labels' / f'{name}.png', result.label, predicted=result.labels.name)
        if self.mask_classes:
            write_label_png(self.path / MASKS / f'{name}.png', result.mask(self.mask_classes))

    def begin(self) -> None:
        """Write the list of sources, which marks the folder as results."""
        write_json(self.path / LIST, {'made_by': 'lw_refinenet segment', 'sources': self._sources})
