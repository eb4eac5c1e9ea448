# SPDX-License-Identifier: Apache-2.0
"""The node's parameters: the one place of their defaults, ranges and descriptions."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from lw_refinenet_ros.class_groups import read_groups
from lw_refinenet_ros.image.ignore_mask import read_ignore_mask
from lw_refinenet_ros.image.rotation import ROTATIONS
from lw_refinenet_ros.image.visibility import Pose
from lw_refinenet_ros.inference.engine import DEVICES, ENGINES, PRECISIONS, Pixels
from lw_refinenet_ros.labels import OPACITY, UNLABELLED_NAME, LabelSet
from lw_refinenet_ros.limits import MAX_NETWORK_SIDE, STRIDE, fault_of_network_size
from lw_refinenet_ros.node.depth_pairing import TOLERANCE_NS
from lw_refinenet_ros.node.parameter_types import fitting
from lw_refinenet_ros.resources import DEFAULT_WEIGHTS

__all__ = [
    'PARAMETERS',
    'TRANSPORTS',
    'Parameter',
    'Settings',
    'Values',
    'declare',
    'read_files',
    'refusal',
    'usage',
]

TRANSPORTS = ('raw', 'compressed')
USAGE = (
    'usage: segmentation_node [-h] [--ros-args [--params-file FILE] [-p NAME:=VALUE] [-r FROM:=TO] ...]\n\n'
    'Segments the images on the topic `image` and publishes labels and overlays.'
)
BY_IMAGE = (
    f'0 (keeps the aspect ratio) or {STRIDE} to {MAX_NETWORK_SIDE}; both 0 keep the size of the image, '
    'enlarged if smaller than the training images.'
)
FILES = {'ignore_mask': 'ignored', 'class_groups': 'groups'}  # and the name of what is read from them
OF_CLASSES = {'overlay_classes': 'all', 'mask_classes': 'none'}  # and what [""] stands for
MAX_TEXT = 8192  # characters of a value: every publisher keeps memory for the longest messages it has sent
CAMERA_NAME = re.compile(r'[A-Za-z]\w*(/[A-Za-z]\w*)*', re.ASCII)


@dataclass(frozen=True)
class Parameter:
    """One parameter: `range` is (lowest, highest), and a read-only one is set at the start or never."""

    name: str
    default: Any
    description: str
    range: tuple[float, float] | None = None
    choices: tuple[str | int, ...] = ()
    read_only: bool = False

    @property
    def explanation(self) -> str:
        """The description with the choices, if there are any."""
        return self.description + (f' One of: {", ".join(map(str, self.choices))}.' if self.choices else '')


PARAMETERS = (
    Parameter('weights', DEFAULT_WEIGHTS, 'Weights file, or name of shipped weights.'),
    Parameter('device', 'auto', 'Device for inference.', choices=DEVICES, read_only=True),
    Parameter('engine', 'auto', 'Inference engine.', choices=ENGINES, read_only=True),
    Parameter('precision', 'auto', 'Numeric precision of inference.', choices=PRECISIONS, read_only=True),
    Parameter(
        'threads', 0, 'CPU threads for inference; 0: all cores, or the CPU quota.', (0, 1024), read_only=True
    ),
    Parameter(
        'cameras',
        [''],
        'Names of the cameras, each with its own topics; [""] is one unnamed camera.',
        read_only=True,
    ),
    Parameter('image_transport', 'raw', 'Transport of the images.', choices=TRANSPORTS, read_only=True),
    Parameter('autostart', True, 'Configure and activate without a lifecycle manager.', read_only=True),
    Parameter(
        'class_groups',
        '',
        "YAML of groups of the weights' classes that take their place in all outputs; '' keeps the classes.",
    ),
    # Without a range: rqt_reconfigure would make it a slider, most of whose sizes take seconds a frame.
    Parameter('network_height', 0, f'Input height of the network in pixels: {BY_IMAGE}'),
    Parameter('network_width', 0, f'Input width of the network in pixels: {BY_IMAGE}'),
    Parameter(
        'rotate',
        0,
        'Degrees clockwise that turn the images upright for the network; outputs are turned back.',
        choices=ROTATIONS,
    ),
    Parameter(
        'overlay_alpha',
        OPACITY,
        'Opacity of the colours in the overlay: 0 shows the image, 1 the colours.',
        (0.0, 1.0),
    ),
    Parameter('overlay_classes', [''], 'Names of the classes to paint in the overlay; [""] paints all.'),
    Parameter('mask_classes', [''], 'Names of the classes that are 255 in the mask; [""] is none.'),
    Parameter(
        'ignore_mask',
        '',
        "PNG of the camera's size: pixels where it is not 0 are unlabelled, such as the robot's own body.",
    ),
    Parameter(
        'points_tolerance',
        TOLERANCE_NS / 1e9,
        'Maximum time in seconds between the stamps of a depth or cloud and the image that labels it.',
        (0.0, 1.0),
    ),
    Parameter(
        'points_transform',
        '',
        "Pose of the depth's or cloud's frame in the image's, 'x y z qx qy qz qw'; '' asks tf.",
    ),
    Parameter('min_confidence', 0.0, 'Pixels of lower confidence (0 to 1) become unlabelled.', (0.0, 1.0)),
    Parameter('max_rate', 0.0, 'Maximum frames per second and camera; 0 is no limit.', (0.0, 1000.0)),
    Parameter('enabled', True, 'Segment frames; false unsubscribes from the cameras.'),
)


@dataclass(frozen=True)
class Settings:
    """The parameters that may change while the node runs; a frame sees one consistent set."""

    network_height: int
    network_width: int
    rotate: int
    overlay_alpha: float
    overlay_classes: tuple[str, ...]
    mask_classes: tuple[str, ...]
    ignored: Pixels | None  # uint8 (H, W), 255 where `ignore_mask` is not 0, else 0
    points_tolerance: float
    points_transform: Pose | None
    min_confidence: float
    max_rate: float
    enabled: bool

    @property
    def network_size(self) -> tuple[int, int]:
        """The (height, width) that the network sees, as `Segmenter.job` takes it."""
        return self.network_height, self.network_width


class Values(dict[str, Any]):
    """The values of all parameters, and `FILES` as read; replaced as a whole, never changed."""

    @cached_property
    def settings(self) -> Settings:
        """Those that may change while the node runs."""
        chosen = {field.name: self[field.name] for field in fields(Settings)}
        for name in OF_CLASSES:
            chosen[name] = tuple(each for each in chosen[name] if each)
        chosen['points_transform'] = _pose(chosen['points_transform'])
        return Settings(**chosen)


def read_files(values: dict[str, Any]) -> dict[str, Any]:
    """Return what the files hold that some values name, by the names of `FILES`.

    Raises:
        ValueError: one cannot be read or used.
    """
    read = {'ignore_mask': read_ignore_mask, 'class_groups': read_groups}
    return {FILES[name]: read[name](values[name]) for name in FILES if name in values}


def _pose(text: str) -> Pose | None:
    """Parse a `points_transform`; None if it is empty.

    Raises:
        ValueError: it is no pose.
    """
    try:
        numbers = tuple(map(float, text.split()))
    except ValueError as error:
        raise ValueError(f'points_transform: {error}; write x y z qx qy qz qw, seven numbers') from error
    try:
        return Pose.build(numbers) if text else None
    except ValueError as error:
        raise ValueError(f'points_transform: {error}') from error


def usage() -> str:
    """Return the usage, with all parameters and their defaults."""
    rows = [f'  {p.name:16} {json.dumps(p.default):9} {p.explanation}' for p in PARAMETERS]
    return '\n'.join([USAGE, '', 'Parameters and their defaults:', *rows])


def declare(node: Node) -> Values:
    """Declare every parameter and return their initial values.

    Raises:
        ValueError: one was given that is of another type, out of range or an empty list.
    """
    for parameter in PARAMETERS:
        # First with any type, to see what was given: rclpy takes no whole number for a double.
        node.declare_parameter(parameter.name, parameter.default, ParameterDescriptor(dynamic_typing=True))
        given = node.get_parameter_or(parameter.name)
        node.undeclare_parameter(parameter.name)
        descriptor = ParameterDescriptor(description=parameter.explanation, read_only=parameter.read_only)
        descriptor.type = RosParameter.Type.from_parameter_value(parameter.default).value
        if parameter.range is not None:
            low, high = parameter.range
            if isinstance(parameter.default, int):
                descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
            else:
                limits = FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)
                descriptor.floating_point_range = [limits]
        value = fitting(given, descriptor).value
        node.declare_parameter(parameter.name, value, descriptor, ignore_override=True)
    return Values({p.name: node.get_parameter(p.name).value for p in PARAMETERS})


def refusal(values: dict[str, Any], classes: LabelSet | None) -> str:
    """Return why a set of values is refused, or an empty string; a ValueError says why as well.

    Args:
        values: of all parameters, as they would be, with `FILES` as read.
        classes: of the weights in use; None while there are none.
    """
    for parameter in PARAMETERS:
        value = values[parameter.name]
        if isinstance(value, (str, list)) and sum(map(len, value)) > MAX_TEXT:
            return f'{parameter.name} has {sum(map(len, value))} characters: at most {MAX_TEXT} are allowed'
        if parameter.choices and value not in parameter.choices:
            choices = ', '.join(map(str, parameter.choices))
            return f'{parameter.name} {value!r} is unknown: choose one of {choices}'
    _pose(values['points_transform'])
    if fault := fault_of_network_size(values['network_height'], values['network_width']):
        return fault
    cameras = list(values['cameras'])
    if cameras != ['']:
        if len(set(cameras)) < len(cameras):
            return f'cameras: {cameras} has a name twice; each has topics of its own'
        for camera in cameras:
            if not CAMERA_NAME.fullmatch(camera):
                return f'cameras: {camera!r} cannot be part of a topic: use letters, digits and _'
    if classes is not None:
        names, groups = classes.names, values['groups']
        if groups is not None:
            try:
                groups.ids(classes)
            except ValueError as error:
                return f'class_groups: {error}'
            names = groups.labels.names
        for name, empty in OF_CLASSES.items():
            known = names if name == 'overlay_classes' else (*names, UNLABELLED_NAME)
            unknown = [repr(each) for each in values[name] if each and each not in known]
            if unknown:
                there = f'[""] is {empty}, there are {", ".join(known)}'
                return f'{name}: no class is called {", ".join(unknown)}; {there}'
    return ''
