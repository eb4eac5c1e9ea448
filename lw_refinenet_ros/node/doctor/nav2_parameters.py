# SPDX-License-Identifier: Apache-2.0
"""Checks a costmap's parameters by the rules of Nav2's semantic segmentation layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lw_refinenet_ros.nav2_layer import PLUGIN
from lw_refinenet_ros.node.doctor.finding import Finding, fault, ok, warning
from lw_refinenet_ros.one_line import unknown

__all__ = ['Source', 'check_costmap', 'layers', 'sources']

# What the layer declares. A parameter of another type ends the costmap's process.
_OF_LAYER: dict[str, type] = {
    'plugin': str,
    'enabled': bool,
    'combination_method': int,
    'observation_sources': str,
    'publish_debug_topics': bool,
    'use_approximate_time_sync': bool,
}
_OF_SOURCE: dict[str, type] = {
    **dict.fromkeys(('segmentation_topic', 'confidence_topic', 'labels_topic', 'pointcloud_topic'), str),
    **dict.fromkeys(('observation_persistence', 'expected_update_rate', 'tile_map_decay_time'), float),
    **dict.fromkeys(('max_obstacle_distance', 'min_obstacle_distance'), float),
    **dict.fromkeys(('visualize_tile_map', 'use_cost_selection'), bool),
    'class_types': list,
}
_OF_TYPE: dict[str, type] = {
    'classes': list,
    **dict.fromkeys(('base_cost', 'max_cost', 'mark_confidence', 'samples_to_max_cost'), int),
    'dominant_priority': bool,
}
_WORDS = {str: 'text', bool: 'true or false', int: 'an integer', float: 'a number with a decimal point'}
_HIGHEST = {'base_cost': 254, 'max_cost': 254, 'mark_confidence': 255, 'samples_to_max_cost': 2**31 - 1}
_SHORT_DECAY_S = 1.0

Source = Mapping[str, Any]  # parameters of an observation source, their names without its prefix


def layers(parameters: Mapping[str, Any]) -> list[str]:
    """Return the names of the semantic layers in a costmap's parameters, whose names have dots."""
    return [name.removesuffix('.plugin') for name, value in parameters.items() if value == PLUGIN]


def sources(parameters: Mapping[str, Any], layer: str) -> dict[str, Source]:
    """Return the observation sources of a layer, by name."""
    names = str(parameters.get(f'{layer}.observation_sources', '')).split()
    return {name: _below(parameters, f'{layer}.{name}') for name in names}


def check_costmap(
    parameters: Mapping[str, Any], names: Sequence[str], of: str = 'the node'
) -> Iterator[Finding]:
    """Check every semantic layer of a costmap.

    Args:
        parameters: of the costmap, by their names with dots.
        names: of all classes in the label images, the unlabelled included.
        of: whose classes they are, in words.
    """
    for layer in layers(parameters):
        yield from _check_loading(parameters, layer)
        yield from _check_names(parameters, layer)
        for name, source in sources(parameters, layer).items():
            yield from _check_source(f'{layer}.{name}', source)
            yield from _check_classes(f'{layer}.{name}', source, names, of)


def _below(parameters: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    start = f'{prefix}.'
    return {n.removeprefix(start): value for n, value in parameters.items() if n.startswith(start)}


def _check_loading(parameters: Mapping[str, Any], layer: str) -> Iterator[Finding]:
    plugins = _list(parameters.get('plugins'))
    inflation = [p for p in plugins if 'inflation' in str(parameters.get(f'{p}.plugin', p)).casefold()]
    after = plugins[: plugins.index(layer)] if layer in plugins else []
    if layer not in plugins:
        yield fault(
            f'{layer}: plugins', f'{plugins} without {layer}', f'add {layer} to plugins, or it is not loaded'
        )
    elif passed := [p for p in inflation if p in after]:
        yield warning(
            f'{layer}: plugins',
            f'{layer} after {passed[0]}',
            f'put {layer} before, or its costs are not inflated',
        )
    else:
        yield ok(f'{layer}: plugins', ', '.join(plugins))
    if parameters.get(f'{layer}.enabled') is False:
        yield warning(f'{layer}: enabled', 'false', 'set enabled: true')
    if not sources(parameters, layer):
        yield fault(
            f'{layer}: observation_sources', 'empty', 'name the sources in one string, such as "front rear"'
        )
    if parameters.get(f'{layer}.use_approximate_time_sync', True):
        yield warning(
            f'{layer}: stamps',
            'use_approximate_time_sync pairs messages up to 100 ms apart',
            'set it to false: mask, confidence and cloud have the same stamp (Humble never approximates)',
        )


def _check_names(parameters: Mapping[str, Any], layer: str) -> Iterator[Finding]:
    """Check the name and type of every parameter of a layer."""
    of_source = sources(parameters, layer)
    for name, value in _below(parameters, layer).items():
        source, _, rest = name.partition('.')
        kind, _, leaf = rest.rpartition('.')
        if not rest:
            known, key = _OF_LAYER, name
        elif source not in of_source:
            yield warning(
                f'{layer}.{name}',
                'of no observation source',
                f'add {source} to observation_sources, or remove it',
            )
            continue
        elif not kind:
            known, key = _OF_SOURCE, rest
        elif kind in _list(of_source[source].get('class_types')):
            known, key = _OF_TYPE, leaf
        else:
            yield warning(f'{layer}.{name}', 'of no class type', f'add {kind} to class_types, or remove it')
            continue
        if key not in known:
            yield warning(f'{layer}.{name}', 'is not read', unknown('parameter', key, known))
        elif not _has_type(value, known[key]):
            words = _WORDS.get(known[key], 'a list of quoted names')
            yield fault(f'{layer}.{name}', repr(value), f'write {words}, or the costmap does not start')
        elif key in _HIGHEST and not 0 <= value <= _HIGHEST[key]:
            yield fault(f'{layer}.{name}', repr(value), f'write 0 to {_HIGHEST[key]}')


def _has_type(value: Any, kind: type) -> bool:
    return type(value) is kind and (not isinstance(value, list) or all(type(each) is str for each in value))


def _list(value: Any) -> list[str]:
    """Return a list as text; empty if it is none, which is a fault of its own."""
    return list(map(str, value)) if isinstance(value, list) else []


def _check_source(check: str, source: Source) -> Iterator[Finding]:
    for topic in ('segmentation_topic', 'pointcloud_topic', 'labels_topic'):
        if not source.get(topic):
            yield fault(f'{check}.{topic}', 'empty', 'name the topic; see `lw_refinenet costmap`')
    if not source.get('confidence_topic'):
        yield ok(f'{check}.confidence_topic', 'empty: every pixel counts as certain')
    near, far = source.get('min_obstacle_distance', 0.3), source.get('max_obstacle_distance', 5.0)
    if _has_type(near, float) and _has_type(far, float) and near >= far:
        yield fault(f'{check}: distances', f'{near} to {far} m', 'make max_obstacle_distance the larger one')
    decay = source.get('tile_map_decay_time', 5.0)
    if _has_type(decay, float) and decay < _SHORT_DECAY_S:
        yield warning(
            f'{check}.tile_map_decay_time',
            f'{decay} s',
            "use several seconds: what is older by the costmap's clock when it arrives is never used",
        )


def _check_classes(check: str, source: Source, names: Sequence[str], of: str) -> Iterator[Finding]:
    kinds = _list(source.get('class_types'))
    listed: dict[str, str] = {}
    for kind in kinds:
        classes = _list(source.get(f'{kind}.classes'))
        if not classes:
            yield fault(f'{check}.{kind}', 'no classes', 'list its classes, or remove it from class_types')
        for name in classes:
            if (other := listed.setdefault(name, kind)) != kind:
                yield warning(
                    f'{check}: class {name}', f'in {other} and {kind}', f'list it once: {other} counts'
                )
    if not listed:
        yield fault(
            f'{check}.class_types', 'no class at all', 'the costmap ends at once: see `lw_refinenet costmap`'
        )
        return
    missing = [name for name in names if name not in listed]
    if missing:
        yield fault(
            f'{check}: classes',
            f'{", ".join(missing)} not listed, of the classes of {of}: their pixels are dropped',
            'list every class under a type; `lw_refinenet costmap` does',
        )
    else:
        yield ok(f'{check}: classes', f'all {len(names)} of {of} listed')
    for name in listed:
        if name not in names:
            yield warning(
                f'{check}.{listed[name]}',
                f'{name!r} is not published: no class of {of}',
                unknown('class', name, names),
            )
