# SPDX-License-Identifier: Apache-2.0
"""Options shared by several commands, and argparse types, which turn a bad value into a usage error."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lw_refinenet_ros.cli.terminal import Progress
from lw_refinenet_ros.inference.engine import DEVICES, ENGINES, PRECISIONS
from lw_refinenet_ros.limits import MAX_NETWORK_SIDE, MAX_PIXELS, MAX_SIDE, fault_of_network_size
from lw_refinenet_ros.one_line import unknown
from lw_refinenet_ros.resources import DEFAULT_WEIGHTS

if TYPE_CHECKING:
    from lw_refinenet_ros.class_groups import ClassGroups
    from lw_refinenet_ros.evaluation.mask_map import MaskMap
    from lw_refinenet_ros.image.encodings import ColorImage
    from lw_refinenet_ros.inference.segmenter import Segmenter
    from lw_refinenet_ros.labels import LabelSet
    from lw_refinenet_ros.sources.source import OnError, SourceFrame

__all__ = [
    'NODE',
    'Progress',
    'UsageError',
    'add_engine_arguments',
    'add_groups_argument',
    'add_ignore_mask_argument',
    'add_mask_arguments',
    'add_network_size_arguments',
    'add_selection_arguments',
    'add_weights_argument',
    'check_mask_arguments',
    'file_ending_in',
    'given_engine_options',
    'image_size',
    'label_set',
    'load_segmenter',
    'mask_map',
    'network_size',
    'number',
    'one_of',
    'path',
    'segmentable',
    'source',
    'warn_of_predictions',
]

NODE = '/lw_refinenet'  # the node's default name, below which labels are published


class UsageError(ValueError):
    """Options that cannot be combined; the message names the remedy."""


def add_engine_arguments(parser: argparse.ArgumentParser, *, weights: bool = True) -> None:
    """Add the options of every command that runs a network; the defaults are those of `Segmenter.load`."""
    if weights:
        add_weights_argument(parser)
    values = {'device': DEVICES, 'engine': ENGINES, 'precision': PRECISIONS}
    for name, known in values.items():
        choice = f'{", ".join(known[:-1])} or {known[-1]}'
        parser.add_argument(f'--{name}', type=one_of(name, known), help=f'{choice} (default: auto)')
    parser.add_argument('--threads', type=number(int, 0), metavar='N', help='CPU threads (default: all)')


def add_weights_argument(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add --weights; by default it is None, which is `DEFAULT_WEIGHTS` to `Segmenter.load`."""
    text = f'shipped weights or a file (default: {DEFAULT_WEIGHTS})'
    parser.add_argument('--weights', default=default, metavar='NAME|FILE', help=text)


def add_groups_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option that puts groups in the place of the weights' classes."""
    parser.add_argument(
        '--class-groups',
        type=path,
        metavar='FILE',
        help="YAML of groups of the weights' classes that take their place in all results",
    )


def add_ignore_mask_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option that leaves pixels unlabelled."""
    parser.add_argument(
        '--ignore-mask',
        type=path,
        metavar='FILE.png',
        help="mask of the images' size: pixels where it is not 0 are unlabelled",
    )


def add_network_size_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say at which size the network sees images, named as the node's parameters."""
    for side, other in (('height', 'width'), ('width', 'height')):
        parser.add_argument(
            f'--network-{side}',
            type=number(int, 0, MAX_NETWORK_SIDE),
            default=0,
            metavar='PIXELS',
            help=f'{side} at which the network sees images; with --network-{other} 0, their shape is kept '
            '(default: 0; both 0: their own size, enlarged if smaller than the training images)',
        )


def add_mask_arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add the options that locate the masks of a bag or folder."""
    parser.add_argument(
        '--labels',
        required=required,
        metavar='DIR|TOPIC',
        help='folder of masks (NAME.png, for a bag STAMP_NS.png, for several bags BAG/STAMP_NS.png) or the '
        'topic of masks in the bag: mono8, or compressed as PNG',
    )
    parser.add_argument('--topic', help="the bag's image topic (default: the only one)")
    parser.add_argument(
        '--tolerance',
        type=number(float, 0),
        default=0.01,
        metavar='S',
        help='maximum time between a frame and its mask, in seconds (default: 0.01)',
    )
    parser.add_argument(
        '--map',
        type=path,
        metavar='FILE',
        help='YAML that maps MASK CLASS: CLASS OF THE WEIGHTS, for masks of other classes',
    )


def check_mask_arguments(options: argparse.Namespace) -> None:
    """Refuse bad combinations of --images, --bag, --topic and --labels before anything is loaded.

    Raises:
        UsageError: the options cannot be combined.
        ValueError: the images, a bag or the masks do not exist.
    """
    masks = Path(options.labels)
    if options.images and options.topic:
        raise UsageError('--topic needs a --bag; --images has no topics')
    if options.bag and options.topic == options.labels:
        raise UsageError(f'--topic and --labels are both {options.topic}: name the images and the masks')
    _check_kinds(options)
    if options.images and not masks.exists():
        topic = '; --images has no topics: name a folder of masks' if options.labels.startswith('/') else ''
        raise ValueError(f'--labels {masks} does not exist{topic}')
    if options.images and not masks.is_dir():
        raise ValueError(f'--labels {masks} is not a folder of masks')
    if options.bag and not masks.is_dir() and not options.labels.startswith('/'):
        raise ValueError(f'--labels {masks}: there is no such folder, and a topic begins with /')


def add_selection_arguments(parser: argparse._ActionsContainer, *, every: str) -> None:
    """Add the options that select frames by number and time; None is the default `every` of the help text."""
    parser.add_argument(
        '--every', type=number(int, 1), metavar='N', help=f'take every N-th frame (default: {every})'
    )
    parser.add_argument('--start', type=number(float, 0), default=0.0, metavar='S', help='skip S seconds')
    parser.add_argument(
        '--end', type=number(float, 0), default=math.inf, metavar='S', help='stop after S seconds'
    )


def network_size(options: argparse.Namespace) -> tuple[int, int]:
    """Return the (height, width) that the network sees, (0, 0) if none was set.

    Raises:
        UsageError: it is too small or too large.
    """
    size = options.network_height, options.network_width
    if fault := fault_of_network_size(*size):
        raise UsageError(re.sub('network_(height|width)', r'--network-\1', fault))
    return size


def given_engine_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the engine options that the user set, as `Segmenter.load` takes them."""
    names = ('weights', 'device', 'engine', 'precision', 'threads')
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    # Of the commands that have them
    if groups := getattr(options, 'class_groups', None):
        given['class_groups'] = str(groups.absolute())
    if hasattr(options, 'network_height') and any(size := network_size(options)):
        given['network_size'] = size
    return given


def load_segmenter(options: argparse.Namespace) -> Segmenter:
    """Load the segmenter that the options name, and print which engine was chosen."""
    from lw_refinenet_ros.inference.segmenter import Segmenter

    segmenter = Segmenter.load(**given_engine_options(options))
    print(f'{segmenter.card.architecture} on {segmenter.engine.description}', file=sys.stderr)
    return segmenter


def segmentable(
    frames: Iterable[tuple[SourceFrame, ColorImage]], segmenter: Segmenter, on_error: OnError
) -> Iterator[tuple[SourceFrame, ColorImage]]:
    """Leave out, and report, the frames of `select` that are too long for the network size."""
    from lw_refinenet_ros.sources.source import SourceError

    for frame, image in frames:
        try:
            segmenter.job(image.array.shape[:2])
        except ValueError as error:
            on_error(SourceError(f'{frame.where}: {error}'))
        else:
            yield frame, image


def number(
    kind: type[int | float], least: float, most: float = math.inf, *, above: bool = False
) -> Callable[[str], float]:
    """Return a parser of finite numbers from `least` to `most`; with `above`, `least` itself is refused."""
    limits = f'above {least:g}' if above else f'from {least:g}'
    limits += f' to {most:g}' if most < math.inf else '' if above else ' on'
    what = f'{"an integer" if kind is int else "a number"} {limits}'

    def parse(text: str) -> float:
        try:
            value = kind(text)
            float(value)
        except (ValueError, OverflowError):
            value = math.nan
        if not (least <= value <= most and math.isfinite(value)) or (above and value == least):
            raise argparse.ArgumentTypeError(f'{text!r} is not {what}')
        return value

    return parse


def one_of(what: str, known: Sequence[str]) -> Callable[[str], str]:
    """Return a parser of one of the known names."""

    def parse(text: str) -> str:
        if text not in known:
            raise argparse.ArgumentTypeError(unknown(what, text, known))
        return text

    return parse


def path(text: str) -> Path:
    """Parse the path of a file or folder; expands ~, which shells leave in --option=~/x."""
    if not text.strip():
        raise argparse.ArgumentTypeError('is empty: name a file or folder')
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f'{text!r}: no such home directory; write the full path') from error


def source(text: str) -> str:
    """Parse what `open_source` takes: a path, or camera:N."""
    return text if text.startswith('camera:') else str(path(text))


def file_ending_in(*suffixes: str) -> Callable[[str], Path]:
    """Return a parser of an output path with one of these suffixes."""

    def parse(text: str) -> Path:
        file = path(text)
        if file.suffix.lower() not in suffixes:
            raise argparse.ArgumentTypeError(f'{text!r} must end in {" or ".join(suffixes)}')
        return file

    return parse


def label_set(weights: str | None, groups: ClassGroups | None = None) -> LabelSet:
    """Return the classes of shipped weights or a file, or groups of them, without loading the network."""
    from lw_refinenet_ros.model.weights import read_card

    classes = read_card(weights or DEFAULT_WEIGHTS).labels
    if groups is None:
        return classes
    groups.ids(classes)  # they fit
    return groups.labels


def mask_map(options: argparse.Namespace, classes: LabelSet, masks: str | Path) -> MaskMap | None:
    """Return the mapping from the classes of the masks, a topic or a folder, to those of the results.

    `options` has --map and maybe --class-groups, `classes` are those of the weights.

    Raises:
        ValueError: the classes differ, and --map does not map them.
    """
    from lw_refinenet_ros.class_groups import read_groups
    from lw_refinenet_ros.evaluation.mask_map import map_for_masks

    folders = () if isinstance(masks, str) else tuple(dict.fromkeys((masks, Path(options.labels))))
    groups = read_groups(getattr(options, 'class_groups', None))
    return map_for_masks(classes, folders, options.map, groups)


def _check_kinds(options: argparse.Namespace) -> None:
    """Refuse a recording as --images and images as --bag; name the option that takes them."""
    from lw_refinenet_ros.sources.images import images_in
    from lw_refinenet_ros.sources.opening import kind_of

    if images := options.images:
        if not images.exists():
            raise ValueError(f'--images {images} does not exist')
        if (kind := kind_of(images)) in ('bag', 'video') and not (images.is_dir() and images_in(images)):
            raise UsageError(f'--images {images} is a {kind}, not a folder of images: use --bag {images}')
        if not images.is_dir():
            raise UsageError(f'--images {images} is not a folder: name the folder of the images')
    bags = options.bag or []
    for bag in bags if isinstance(bags, list) else [bags]:
        if not bag.exists():
            raise ValueError(f'--bag {bag} does not exist')
        kind = kind_of(bag)
        if kind in ('image', 'folder of images') and not getattr(options, 'live', False):
            folder = bag.parent if kind == 'image' else bag
            article = 'an' if kind == 'image' else 'a'
            raise UsageError(f'--bag {bag} is {article} {kind}: use --images {folder}')
        if kind not in ('bag', '') and not Path(options.labels).is_dir():
            raise UsageError(
                f'--bag {bag} is a {kind} and has no topics: --labels must be a folder of masks STAMP_NS.png'
            )


def warn_of_predictions(labels: Iterable[str | Path]) -> None:
    """Print a line if masks in these folders are what a network predicted; topics are not looked at."""
    from lw_refinenet_ros.image.label_png import fault_of_predictions
    from lw_refinenet_ros.sources.images import masks_in

    folders = [each for each in labels if isinstance(each, Path)]
    if fault := fault_of_predictions([mask for folder in folders for mask in masks_in(folder)]):
        print(f'warning: {fault}', file=sys.stderr)


def image_size(text: str) -> tuple[int, int]:
    """Parse WIDTHxHEIGHT into (height, width)."""
    if not (match := re.fullmatch(r'([0-9]{1,5})x([0-9]{1,5})', text)):
        raise argparse.ArgumentTypeError(f'{text!r} is not WIDTHxHEIGHT, such as 640x480')
    width, height = map(int, match.groups())
    if not (width and height and max(width, height) <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise argparse.ArgumentTypeError(
            f'{text!r} must have sides from 1 to {MAX_SIDE} and at most {MAX_PIXELS} pixels'
        )
    return height, width
