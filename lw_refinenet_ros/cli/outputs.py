# SPDX-License-Identifier: Apache-2.0
"""Outputs are declared before the work: none replaces an input, another output or a file of another kind."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lw_refinenet_ros.resources import find_weights

__all__ = [
    'BAG',
    'COSTMAP',
    'DIAGNOSIS',
    'JSON',
    'LOG',
    'ONNX',
    'PICTURE',
    'RANKING',
    'RECORDING',
    'REPORT',
    'REVIEW',
    'SEGMENTED',
    'TRAINING',
    'OVERLAY',
    'WEIGHTS',
    'Declared',
    'Kind',
    'Output',
    'check_outputs',
]

LEAST_FREE = 2**20  # free bytes required before the work begins
RESULTS = ('.json', '.html')  # not inputs when found in a folder that is read
HEAD = 4096  # bytes of a file that identify its type


# The files that a command writes, and the files, folders and shipped weights that it reads.
Declared = tuple[Sequence['Output'], Sequence['str | Path | None']]


class Kind(NamedTuple):
    """A type of file that commands write."""

    name: str  #: with its article, for 'x.json is not NAME'
    #: Whether a file is of this type and was written by a command, so that it may be replaced
    is_ours: Callable[[Path], bool]


class Output(NamedTuple):
    """A file that a command will write."""

    option: str  #: the option that names it, for messages
    path: Path | None  #: the file; None if it was not requested
    kind: Kind  #: the type of file


def check_outputs(outputs: Sequence[Output], inputs: Sequence[str | Path | None]) -> None:
    """Refuse outputs that would replace another file or cannot be written.

    Files are compared by identity, not by name: symbolic links, relative paths and hard links to an
    input are that input.

    Args:
        outputs: all files to write.
        inputs: files to read, folders with all their files, and names of shipped weights. Other names,
            such as topics and cameras, are ignored.

    Raises:
        ValueError: names the output and what it would replace.
    """
    places: dict[str, Output] = {}
    found: dict[tuple[int, int], Output] = {}
    for output in outputs:
        if output.path is None:
            continue
        place = os.path.realpath(output.path).casefold()  # on some file systems capitals are the same
        if place in places:
            other = places[place].option
            raise ValueError(f'{output.option} {output.path} is also the output of {other}: choose another')
        places[place] = output
        _check_place(output)
        if output.path.exists():
            status = output.path.stat()
            found[status.st_dev, status.st_ino] = output
    if found:
        for file in _files(inputs):
            status = file.stat()
            if taken := found.get((status.st_dev, status.st_ino)):
                raise ValueError(
                    f'{taken.option} {taken.path} would replace the input {file}: choose another file'
                )
    for output in found.values():
        assert output.path is not None
        if output.path.stat().st_size and not output.kind.is_ours(output.path):
            raise ValueError(
                f'{output.option} {output.path} exists and is not {output.kind.name} of this command: '
                f'choose another file, or remove it'
            )


def _check_place(output: Output) -> None:
    """Check that a file can be written there, without creating one."""
    path = Path(output.path or '')
    if path.is_dir():
        raise ValueError(f'{output.option} {path} is a folder: choose a file in it')
    if path.exists() and not path.is_file():
        raise ValueError(f'{output.option} {path} is not a regular file: choose another')
    folder = next(each for each in path.absolute().parents if os.path.lexists(each))
    try:
        with tempfile.TemporaryFile(dir=folder) as file:  # unnamed where the system supports it
            if hasattr(os, 'posix_fallocate'):  # not on macOS
                os.posix_fallocate(file.fileno(), 0, LEAST_FREE)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that cannot reserve space
            return
        raise ValueError(f'{output.option} {path} cannot be written: {folder}: {error.strerror}') from error


def _files(inputs: Iterable[str | Path | None]) -> Iterator[Path]:
    """Yield the files that are read, including those below folders."""
    for each in inputs:
        if not each:
            continue
        path = Path(each)
        if not os.path.lexists(path):
            try:
                path = find_weights(str(each))
            except (ValueError, OSError):
                continue
        below = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
        read = (file for file in below if file.suffix.lower() not in RESULTS)
        yield from (file for file in (path, *read) if file.is_file())


def _begins(*starts: bytes) -> Callable[[Path], bool]:
    return lambda path: _head(path).startswith(starts)


def _holds(mark: bytes) -> Callable[[Path], bool]:
    return lambda path: mark in _head(path)


def _head(path: Path) -> bytes:
    with path.open('rb') as file:
        return file.read(HEAD)


def _is_weights(path: Path) -> bool:
    from lw_refinenet_ros.model.weights import is_weights_file

    return is_weights_file(path)


def _is_bag(path: Path) -> bool:
    from lw_refinenet_ros.sources.bag_writer import holds_results

    return holds_results(path)


def _is_video(path: Path) -> bool:
    from lw_refinenet_ros.sources.video_writer import is_overlay

    return is_overlay(path)


JSON = Kind('the JSON', _begins(b'{\n  "miou": ', b'{\n  "machine": '))
RECORDING = Kind('a recording', _holds(b'lw_refinenet'))
RANKING = Kind('a table of runs', _begins(b'run,frames,miou,'))
REPORT = Kind('a report', _holds(b'<meta name="generator" content="lw_refinenet_ros">'))
BAG = Kind('a bag of results', _is_bag)
WEIGHTS = Kind('a weights file', _is_weights)
ONNX = Kind('an ONNX file', _holds(b'\x12\x10lw_refinenet_ros'))  # its producer
PICTURE = Kind('a picture', _holds(b'Software\0lw_refinenet_ros'))
OVERLAY = Kind('a video', _is_video)
TRAINING = {
    'state.safetensors': Kind('the state', _holds(b'"state"')),
    'log.csv': Kind('the log', _begins(b'epoch,')),
    'curves.svg': Kind('a chart', _begins(b'<svg')),
}
SEGMENTED = Kind('the list', _begins(b'{\n  "made_by": "lw_refinenet segment"'))
COSTMAP = Kind('the layer', _begins(b"# Nav2's semantic segmentation layer"))
REVIEW = Kind('a review', _begins(b'{\n  "reviewed": '))
DIAGNOSIS = Kind('a diagnosis', _begins(b'{\n  "faults": '))
LOG = Kind('a log', _begins(b'{"stamp_ns": '))
