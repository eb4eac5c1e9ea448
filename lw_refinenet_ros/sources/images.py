# SPDX-License-Identifier: Apache-2.0
"""Image files as a source."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2

from lw_refinenet_ros.files import read_regular
from lw_refinenet_ros.image.compressed import decode_image
from lw_refinenet_ros.image.frame import FrameError, Pixels
from lw_refinenet_ros.one_line import reason
from lw_refinenet_ros.sources.limits import MAX_MESSAGE_BYTES
from lw_refinenet_ros.sources.source import START_NS, OnError, Source, SourceError, SourceFrame

__all__ = [
    'IMAGE_SUFFIXES',
    'UNREADABLE_SUFFIXES',
    'ImageSource',
    'by_stem',
    'composed',
    'images_in',
    'masks_in',
    'read_image',
]

# Of 8 or 16 bits per value; which of them there are depends on how OpenCV was built.
IMAGE_SUFFIXES = tuple(
    f'.{suffix}'
    for suffix in (
        *('png', 'jpg', 'jpeg', 'jpe', 'jp2', 'bmp', 'dib', 'tif', 'tiff', 'webp', 'gif', 'avif'),
        *('pbm', 'pgm', 'ppm', 'pnm', 'pam', 'sr', 'ras', 'jfif'),
    )
    if suffix == 'jfif' or cv2.haveImageWriter(f'image.{suffix}')  # JPEG by another name
)
# Listed although OpenCV may not read them, so that each is reported, not passed over
UNREADABLE_SUFFIXES = ('.heic', '.heif', '.avif', '.jxl')

_RATE_HZ = 10
_END_OF_TIME_NS = 2**31 * 1_000_000_000  # of a ROS stamp, whose seconds are int32


def images_in(folder: Path) -> list[Path]:
    """List the image files of a folder so that frame10 comes after frame9."""
    suffixes = {*IMAGE_SUFFIXES, *UNREADABLE_SUFFIXES}
    images = [path for path in folder.iterdir() if path.suffix.lower() in suffixes]
    return sorted(
        (path for path in images if not path.name.startswith('.') and path.is_file()),
        key=lambda path: (
            [int(part) if part.isdecimal() else part for part in re.split(r'(\d+)', path.name)],
            path.name,
        ),
    )


def masks_in(folder: Path) -> list[Path]:
    """List the PNG files of a folder; none if there is no such folder."""
    listed = folder.iterdir() if folder.is_dir() else ()
    files = sorted(path for path in listed if path.suffix.lower() == '.png')
    return [path for path in files if not path.name.startswith('.') and path.is_file()]


def by_stem(paths: Iterable[Path]) -> dict[str, list[Path]]:
    """Return files by their `composed` stem, which an image and its mask share; in the order given."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(composed(path.stem), []).append(path)
    return found


def composed(name: str) -> str:
    """Return a name with a letter and its accent as one character; macOS writes two."""
    return unicodedata.normalize('NFC', name)


def read_image(path: Path) -> Pixels:
    """Read an image file, uint8 (H, W, 3) BGR; see `decode_image`.

    Raises:
        SourceError: it cannot be read or is not a readable image, in one line that names it.
    """
    try:
        return decode_image(read_regular(path, MAX_MESSAGE_BYTES))
    except (FrameError, OSError, MemoryError) as error:
        raise SourceError(f'{path}: {reason(error)}') from error
    except ValueError as error:  # names the path already
        raise SourceError(str(error)) from error


class ImageSource(Source):
    """Image files in the order given, at 10 Hz or, where every stem is a stamp in ns, at those stamps.

    A stamp has 16 to 19 digits and is one that ROS can say.
    """

    def __init__(self, description: str, paths: Sequence[Path], on_error: OnError | None = None) -> None:
        super().__init__(description, on_error)
        self.length = len(paths)
        stems = [path.stem for path in paths]
        if all(re.fullmatch(r'[0-9]{16,19}', stem) and int(stem) < _END_OF_TIME_NS for stem in stems):
            stamps = [int(stem) for stem in stems]
            if len(stamps) > 1 and stamps[-1] > stamps[0]:
                self.rate_hz = (len(stamps) - 1) * 1e9 / (stamps[-1] - stamps[0])
        else:
            stamps = [START_NS + index * 1_000_000_000 // _RATE_HZ for index in range(len(paths))]
            self.rate_hz = float(_RATE_HZ)
        self.files = list(zip(stamps, paths))
        self._names = _unique(stems)

    @property
    def paths(self) -> dict[str, Path]:
        """The files by the names of their frames."""
        return {name: path for name, (_, path) in zip(self._names, self.files)}

    def __iter__(self) -> Iterator[SourceFrame]:
        for (stamp_ns, path), name in zip(self.files, self._names):
            try:
                image = read_image(path)
            except SourceError as error:
                self._report(error, error.__cause__)
                continue
            yield SourceFrame.of_image(image, stamp_ns, name, str(path))


def _unique(stems: Sequence[str]) -> list[str]:
    """Return a name for each: the stem or, where that was there before, STEM_INDEX."""
    taken, names = set(stems), list[str]()
    given = set[str]()
    for index, stem in enumerate(stems):
        name = stem
        if stem in given:
            name = f'{stem}_{index}'
            while name in taken:
                name += '_'
            taken.add(name)
        given.add(stem)
        names.append(name)
    return names
