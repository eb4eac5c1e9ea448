# SPDX-License-Identifier: Apache-2.0
"""Parameters of Nav2's semantic segmentation layer for a set of classes."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lw_refinenet_ros.labels import UNLABELLED_NAME
from lw_refinenet_ros.one_line import one_line, printable, unknown

__all__ = ['PLUGIN', 'TYPES', 'Costs', 'assign_types', 'guessed', 'write_layer']

PLUGIN = 'semantic_segmentation_layer::SemanticSegmentationLayer'


@dataclass(frozen=True)
class Costs:
    """What the layer makes of the observations on a tile; the fields are its parameters, 0 their default."""

    base_cost: int  # from the first observation on, 0 to 254
    # From `samples_to_max_cost` observations on, if their mean confidence is above `mark_confidence`, of 255
    max_cost: int
    mark_confidence: int = 0
    samples_to_max_cost: int = 0
    dominant_priority: bool = False  # whether one observation removes those of other classes


TYPES = {
    'free': Costs(0, 0),
    'careful': Costs(60, 120, mark_confidence=128, samples_to_max_cost=5),
    'lethal': Costs(254, 254, dominant_priority=True),
    'ignored': Costs(0, 0),
}
_OTHERWISE = 'careful'
_USUAL = {
    'free': 'road, pavement, sidewalk, crosswalk, path, trail, ground, floor, asphalt, concrete, carpet, '
    'rug, parking, road marking, lane, lane marking, drivable, drivable area, drivable surface, driveable, '
    'driveable surface, driveway, traversable, walkable, navigable, free space, freespace',
    'careful': 'grass, terrain, gravel, sand, dirt, soil, mud, snow, tree, vegetation, bush, sign, '
    'traffic sign, traffic light',
    'lethal': 'person, pedestrian, people, human, child, worker, rider, bicyclist, cyclist, bicycle, bike, '
    'motorcycle, motorbike, vehicle, car, van, truck, bus, train, caravan, trailer, wheelchair, stroller, '
    'forklift, animal, bird, cat, dog, cow, horse, sheep, obstacle, building, house, wall, fence, '
    'railing, guard rail, barrier, gate, door, window, glass, pole, column, pillar, post, bollard, cone, '
    'traffic cone, curb, kerb, rock, water, stairs, staircase, cliff, furniture, chair, table, desk, sofa, '
    'couch, bed, cabinet, shelf, rack, pallet, box, cart, bin, trash can, bench, potted plant, '
    'non drivable, non traversable',
    'ignored': f'sky, ceiling, void, {UNLABELLED_NAME}',
}
_TYPE_OF = {name: kind for kind, names in _USUAL.items() for name in (kind, *names.split(', '))}

_LAYER = """\
# Nav2's semantic segmentation layer for the classes of {weights}, written by `lw_refinenet costmap`.
# Merge `plugins` with those of your costmap. This checks the result, the FILE that you merged it into:
#   {check}
{note}local_costmap:
  local_costmap:
    ros__parameters:
      plugins: [semantic_layer, inflation_layer]
      semantic_layer:
        plugin: {plugin}
        enabled: true
        use_approximate_time_sync: false  # mask, confidence and cloud have the same stamp
        observation_sources: {sources}
"""
_PARAMETERS = frozenset({'plugin', 'enabled', 'use_approximate_time_sync', 'observation_sources'})
_SOURCE = """\
        {source}:
          segmentation_topic: {topics}/points/label  # with the size and the stamp of the cloud
          confidence_topic: {topics}/points/confidence
          labels_topic: {node}/label_info
          pointcloud_topic: {topics}/points
          max_obstacle_distance: 5.0  # metres
          min_obstacle_distance: 0.3
          # The layer compares stamps with two clocks, that of the clouds and the costmap's. Keep this well
          # above the age of a cloud when it arrives, or observations expire before they are used.
          tile_map_decay_time: 5.0  # seconds
          # The layer never clears a cell whose observations have expired. Use a rolling window, call
          # /local_costmap/clear_entirely_local_costmap, or patch the layer: its pull request 5 clears
          # by ray tracing.
          use_cost_selection: true  # the pixel of highest cost on a tile wins
          class_types: [{types}]
"""


def assign_types(names: Sequence[str], chosen: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Put every class, and the unlabelled, under one of `TYPES`: as chosen, else as is usual for its name.

    Args:
        names: of the classes.
        chosen: names of classes by type.

    Returns:
        The classes of each type that has any.

    Raises:
        ValueError: a chosen name is of no class, or under two types.
    """
    every = tuple(dict.fromkeys((*names, UNLABELLED_NAME)))
    type_of: dict[str, str] = {}
    for kind, wanted in chosen.items():
        for name in wanted:
            if name not in every:
                raise ValueError(unknown('class', name, every))
            if type_of.setdefault(name, kind) != kind:
                raise ValueError(f'class {name!r} is chosen as {type_of[name]} and as {kind}: choose one')
    for name in every:
        type_of.setdefault(name, _usual_type(name) or _OTHERWISE)
    types = {kind: tuple(name for name in every if type_of[name] == kind) for kind in TYPES}
    return {kind: classes for kind, classes in types.items() if classes}


def guessed(names: Sequence[str], chosen: Mapping[str, Sequence[str]]) -> str:
    """Tell, in one line, which classes are careful only because their names are unknown here.

    Args:
        names: of the classes.
        chosen: names of classes by type.

    Returns:
        The words; empty if there is no such class.
    """
    known = {name for wanted in chosen.values() for name in wanted}
    unknown_names = [name for name in names if name not in known and not _usual_type(name)]
    if not unknown_names:
        return ''
    options = ', '.join(f'--{kind}' for kind in TYPES)
    return printable(f'{_OTHERWISE} by guess: {", ".join(unknown_names)}; choose by {options}')


def _usual_type(name: str) -> str | None:
    return _TYPE_OF.get(name.casefold().replace('_', ' ').replace('-', ' '))


def write_layer(
    types: Mapping[str, Sequence[str]],
    *,
    weights: str,
    node: str,
    cameras: Sequence[str] = ('',),
    class_groups: str | os.PathLike[str] | None = None,
    note: str = '',
) -> str:
    """Return a local costmap's YAML with the layer.

    Args:
        types: classes by the name of their type, as `assign_types` returns them.
        weights: whose classes these are, a name or a file, for the comment.
        node: its fully qualified name, whose topics the layer subscribes to.
        cameras: of the node; '' is one without a name.
        class_groups: file of the groups that these are, of the classes of the weights, for the comment.
        note: a line for the comment, as `guessed` returns it.

    Raises:
        ValueError: two cameras would have one source, or one has the name of a parameter of the layer.
    """
    sources = {camera.replace('/', '_') or 'camera': f'{node}/{camera}'.rstrip('/') for camera in cameras}
    if len(sources) < len(cameras) or _PARAMETERS.intersection(sources):
        raise ValueError(
            f'cameras {", ".join(cameras)}: their names must differ in more than / and _, and none may be '
            f'{", ".join(sorted(_PARAMETERS))}: rename one'
        )
    check = ['lw_refinenet', 'doctor', '--params', 'FILE', '--weights', weights]
    check += ['--class-groups', os.fspath(class_groups)] if class_groups else []
    text = _LAYER.format(
        weights=one_line(f'{weights} in the groups of {class_groups}' if class_groups else weights),
        check=printable(shlex.join(check)),
        note=f'# {note}\n' if note else '',
        plugin=PLUGIN,
        sources=' '.join(sources),
    )
    for source, topics in sources.items():
        text += _SOURCE.format(source=source, topics=topics, node=node, types=', '.join(types))
        for kind, classes in types.items():
            text += f'          {kind}:\n            classes: [{", ".join(map(_quoted, classes))}]\n'
            for name, value in vars(TYPES[kind]).items():
                if value or name in ('base_cost', 'max_cost'):
                    text += f'            {name}: {str(value).lower()}\n'
    return text


def _quoted(name: str) -> str:
    """Quote a name: `no` would be a boolean, `255` a number, and such a list is refused."""
    return "'" + name.replace("'", "''") + "'"
