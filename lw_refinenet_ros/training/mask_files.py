# SPDX-License-Identifier: Apache-2.0
"""Find the masks of images in the folders and under the names of other tools."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path

from lw_refinenet_ros.one_line import first_of
from lw_refinenet_ros.sources.images import IMAGE_SUFFIXES, composed

__all__ = ['Pairing', 'pair_files']

ANY = '*'
IMAGE_NAMES = ('*_leftImg8bit', '*_windshield_vis', ANY)  # Cityscapes, GOOSE
MASK_NAMES = (
    *('*_gtFine_labelIds', '*_gtFine_labelTrainIds', '*_gtFine_color', '*_labelTrainIds', '*_labelids'),
    '*_mask',
)
KINDS = 20  # of names of masks from which a proposal is made


@dataclass(frozen=True)
class Pairing:
    """Images and masks of one name, in any folders."""

    pairs: Mapping[str, tuple[Path, Path]]  #: image and mask by the name that they share
    images_alone: Sequence[str]  #: names of images without a mask
    masks_alone: Sequence[str]  #: names of masks without an image
    ignored: Sequence[str]  #: names of files that are called neither as an image nor as a mask


def pair_files(images: Path, masks: Path, names: tuple[str, str] | None = None) -> Pairing:
    """Pair the images and the PNG masks in two folders and all folders below; both may be the same.

    Args:
        images: the folder of images.
        masks: the folder of masks. Where some are called as in `MASK_NAMES`, only these count.
        names: how images and masks are called without their suffix, each with one `*` for the same text; with
            a slash, from their folder on. Images that are only `*` may be called as in `IMAGE_NAMES`.

    Raises:
        ValueError: there are none, no image has a mask, or a name is that of several images or masks.
    """
    pictures, files = _names_below(images, IMAGE_SUFFIXES), _names_below(masks, ('.png',))
    if not files:
        name = names[1].replace(ANY, 'NAME', 1) if names else 'NAME'
        raise ValueError(f'{masks} has no masks {name}.png, nor have the folders in it')
    of_images, of_masks = _by_text(pictures, files, names)
    shared = [name for name in of_images if name in of_masks]
    if not shared:
        sure = {path: name for path, name in pictures.items() if path not in files} or pictures
        shown = [first_of(list(each.values())) or 'none' for each in (sure, files)]
        proposed = _proposal(sure, files)
        advice = f"try --names '{proposed}'" if proposed else "--names 'IMAGE=MASK' says how they are called"
        raise ValueError(
            f'no image of {images} ({shown[0]}) has a mask {"called so" if names else "of its name"} '
            f'in {masks} ({shown[1]}): {advice}'
        )
    several = [
        (*of_images[name], *of_masks[name])
        for name in shared
        if len(of_images[name]) > 1 or len(of_masks[name]) > 1
    ]
    if several:
        paths = first_of([', '.join(map(str, paths)) for paths in several])
        choose = '' if names else "choose one kind of mask with --names 'IMAGE=MASK', or "
        raise ValueError(f'{paths} have one name: {choose}convert one folder at a time')
    used = {path for found in (of_images, of_masks) for paths in found.values() for path in paths}
    return Pairing(
        {name: (of_images[name][0], of_masks[name][0]) for name in shared},
        [name for name in of_images if name not in of_masks],
        [name for name in of_masks if name not in of_images],
        [name for path, name in {**pictures, **files}.items() if path not in used],
    )


def _names_below(folder: Path, suffixes: tuple[str, ...]) -> dict[Path, str]:
    """Return the names of files from the folder on, without their suffixes."""
    files = (path for path in sorted(folder.rglob('*')) if path.suffix.lower() in suffixes)
    files = (path for path in files if not path.name.startswith('.') and path.is_file())
    return {path: composed(path.relative_to(folder).with_suffix('').as_posix()) for path in files}


def _by_text(
    pictures: Mapping[Path, str], files: Mapping[Path, str], names: tuple[str, str] | None
) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Return images and masks by what stands in their names for the `*`.

    A file of both names is an image only if that name says more.
    """
    theirs = _texts(files, (names[1],) if names else MASK_NAMES)
    if not (theirs or names):
        theirs = _texts(files, (ANY,))
    ours = _texts(pictures, IMAGE_NAMES if names is None or names[0] == ANY else (names[0],))
    for path in ours.keys() & theirs.keys():
        (theirs if names and len(names[0]) > len(names[1]) else ours).pop(path)
    found: tuple[dict[str, list[Path]], dict[str, list[Path]]] = {}, {}
    for texts, by_text in zip((ours, theirs), found):
        for path, text in texts.items():
            by_text.setdefault(text.replace('/', '_'), []).append(path)
    return found


def _texts(names: Mapping[Path, str], patterns: Sequence[str]) -> dict[Path, str]:
    """Return what stands for the `*` of the first pattern that fits, of the files that one fits."""
    texts: dict[Path, str] = {}
    for path, name in names.items():
        for pattern in patterns:
            before, _, after = composed(pattern).partition(ANY)
            whole = name if '/' in pattern else name.rpartition('/')[2]
            fits = whole.startswith(before) and whole.endswith(after)
            if fits and len(whole) > len(before) + len(after):
                texts[path] = whole[len(before) : len(whole) - len(after)]
                break
    return texts


def _proposal(pictures: Mapping[Path, str], files: Mapping[Path, str]) -> str:
    """Return the IMAGE=MASK that pairs most, made of what names of an image and of masks share; or ''."""
    if not pictures:
        return ''
    image = next(iter(pictures.values()))
    kinds: dict[str, str] = {}
    for name in files.values():
        kinds.setdefault(re.sub('[0-9]+', '0', name), name)
    best, most = '', 0
    for mask in islice(kinds.values(), KINDS):
        last = [name.rpartition('/')[2] for name in (image, mask)]
        for names in (*_common(last[0], last[1]), *_common(image, mask)):
            of_images, of_masks = _by_text(pictures, files, names)
            if (paired := len(of_images.keys() & of_masks.keys())) > most:
                best, most = '='.join(names), paired
    return best


def _common(image: str, mask: str) -> list[tuple[str, str]]:
    """Return two names with a `*` for the words at their end, or at their beginning, that are the same."""
    words = [re.findall(r'[0-9]+|[^\W\d_]+|.', name) for name in (image, mask)]
    if words[0] == words[1]:
        return []
    beginning, end = _shared(*words), _shared(*(each[::-1] for each in words))[::-1]
    while end and not end[0].isalnum():
        del end[0]
    while beginning and not beginning[-1].isalnum():
        del beginning[-1]
    found = []
    if text := ''.join(end):
        found.append((image.removesuffix(text) + ANY, mask.removesuffix(text) + ANY))
    if text := ''.join(beginning):
        found.append((ANY + image.removeprefix(text), ANY + mask.removeprefix(text)))
    return found


def _shared(ours: Sequence[str], theirs: Sequence[str]) -> list[str]:
    """Return the words with which both begin."""
    return [word for word, _ in takewhile(lambda both: both[0] == both[1], zip(ours, theirs))]
