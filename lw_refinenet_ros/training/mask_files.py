# SPDX-License-Identifier: Apache-2.0
"""Find the masks of images in the folders and under the names of other tools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lw_refinenet_ros.one_line import first_of
from lw_refinenet_ros.sources.images import IMAGE_SUFFIXES, by_stem

__all__ = ['Pairing', 'pair_files']

IMAGE_ENDING = '_leftImg8bit'  # Cityscapes
MASK_ENDINGS = ('_gtFine_labelIds', '_gtFine_labelTrainIds', '_gtFine_color', '_labelTrainIds', '_mask')


@dataclass(frozen=True)
class Pairing:
    """Images and masks of one name, in any folders."""

    pairs: Mapping[str, tuple[Path, Path]]  #: image and mask by the name that they share
    images_alone: Sequence[str]  #: names of images without a mask
    masks_alone: Sequence[str]  #: names of masks without an image


def pair_files(images: Path, masks: Path, ending: str | None = None) -> Pairing:
    """Pair the images and the PNG masks in two folders and all folders below; both may be the same.

    Args:
        images: the folder of images; Cityscapes' ending is no part of their name.
        masks: the folder of masks. Where some end as in `MASK_ENDINGS`, only these count.
        ending: of the masks' names before '.png', if it is another, or if there are several kinds.

    Raises:
        ValueError: there are none, no image has a mask, or a name is that of several images or masks.
    """
    endings = MASK_ENDINGS if ending is None else (ending,)
    files = _files_below(masks, ('.png',))
    ended = [path for path in files if path.stem.endswith(endings)]
    files = ended if ended or ending is not None else files
    if not files:
        raise ValueError(f'{masks} has no masks NAME{ending or ""}.png, nor have the folders in it')
    of_masks = _by_name(files, endings)
    taken = set(files)
    pictures = [path for path in _files_below(images, IMAGE_SUFFIXES) if path not in taken]
    of_images = _by_name(pictures, (IMAGE_ENDING,))
    shared = [name for name in of_images if name in of_masks]
    if not shared:
        raise ValueError(
            f'no image of {images} ({first_of(list(of_images)) or "none"}) has a mask of its name in {masks} '
            f'({first_of(list(of_masks))}): --mask-ending TEXT names what masks have after the name'
        )
    several = [
        (*of_images[name], *of_masks[name])
        for name in shared
        if len(of_images[name]) > 1 or len(of_masks[name]) > 1
    ]
    if several:
        names = first_of([', '.join(map(str, paths)) for paths in several])
        raise ValueError(
            f'{names} have one name: choose one kind of mask with --mask-ending, or one folder at a time'
        )
    return Pairing(
        {name: (of_images[name][0], of_masks[name][0]) for name in shared},
        [name for name in of_images if name not in of_masks],
        [name for name in of_masks if name not in of_images],
    )


def _files_below(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    files = (path for path in sorted(folder.rglob('*')) if path.suffix.lower() in suffixes)
    return [path for path in files if not path.name.startswith('.') and path.is_file()]


def _by_name(files: Iterable[Path], endings: Sequence[str]) -> dict[str, list[Path]]:
    """Return files by their stems without the first of the endings that they have."""
    found: dict[str, list[Path]] = {}
    for stem, paths in by_stem(files).items():
        ending = next((each for each in endings if stem.endswith(each)), '')
        found.setdefault(stem.removesuffix(ending), []).extend(paths)
    return found
