# SPDX-License-Identifier: Apache-2.0
"""Read untrusted YAML: plain values only, with size and depth bounded before anything is built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from lw_refinenet_ros.files import read_regular
from lw_refinenet_ros.one_line import one_line

__all__ = ['MAX_BYTES', 'MAX_DEPTH', 'MAX_DIGITS', 'parse_yaml', 'read_yaml']

MAX_BYTES = 64 << 10  # 255 classes with the longest names need half of it
MAX_DEPTH = 32  # of nested mappings and sequences
MAX_DIGITS = 64  # of a number, whose conversion takes quadratic time

_PREFIX = 'tag:yaml.org,2002:'
_SCALARS = {_PREFIX + name for name in ('null', 'bool', 'int', 'float')}
_TUPLE = _PREFIX + 'python/tuple'  # launch_ros writes every list of a launch file so
_SAFE = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)


def read_yaml(path: Path | str, max_bytes: int = MAX_BYTES) -> Any:
    """Read a YAML file; see `parse_yaml`.

    Raises:
        ValueError: the file is not a regular file, too large, or invalid; the message names it.
        OSError: it cannot be read.
    """
    content = read_regular(path, max_bytes)
    try:
        return parse_yaml(content, max_bytes)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error


def parse_yaml(content: bytes | str, max_bytes: int = MAX_BYTES) -> Any:
    """Parse one YAML document into None, bool, int, float, str, list and dict.

    Dates remain text, and a tuple that Python wrote is a list. Keys of mappings are any of these types except
    list and dict.

    Raises:
        ValueError: the text is not YAML, longer than `max_bytes`, nested more than `MAX_DEPTH` levels, or has
            an alias, a merge, another tag, or a number of more than `MAX_DIGITS` characters.
    """
    if len(content) > max_bytes:
        raise ValueError(f'{len(content)} bytes of YAML: at most {max_bytes} are allowed')
    try:
        _check(content)
        loader = _LOADER(content)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ValueError(one_line(f'not YAML: {error}')) from error


def _check(content: bytes | str) -> None:
    """Check every parser event before values are built, which needs neither memory nor recursion."""
    depth = 0
    for event in yaml.parse(content, Loader=_SAFE):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            fault = f'values nested more than {MAX_DEPTH} levels deep'
        elif isinstance(event, yaml.AliasEvent):
            fault = f'the alias *{event.anchor}: write the values themselves'
        elif isinstance(event, yaml.ScalarEvent) and event.implicit[0] and event.value == '<<':
            fault = 'a merge (<<): write the values themselves'
        elif isinstance(event, yaml.SequenceStartEvent) and event.tag == _TUPLE:
            continue
        elif getattr(event, 'tag', None) not in (None, '!'):
            fault = f'the tag {event.tag}: values need none'
        else:
            continue
        raise ValueError(one_line(f'line {event.start_mark.line + 1} has {fault}'))


def _short(construct: Callable[[Any, Any], object]) -> Callable[[Any, Any], object]:
    """Refuse a long number before converting it."""

    def construct_short(loader: Any, node: Any) -> object:
        if len(node.value) > MAX_DIGITS:
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f'a number of {len(node.value)} characters: at most {MAX_DIGITS} are allowed',
                node.start_mark,
            )
        return construct(loader, node)

    return construct_short


_LOADER: Any = type(
    '_PlainLoader',
    (_SAFE,),
    {
        'yaml_constructors': {
            tag: _short(construct) if tag in (_PREFIX + 'int', _PREFIX + 'float') else construct
            for tag, construct in _SAFE.yaml_constructors.items()
        }
        | {_TUPLE: _SAFE.construct_yaml_seq},
        'yaml_implicit_resolvers': {
            first: [(tag, pattern) for tag, pattern in resolvers if tag in _SCALARS]
            for first, resolvers in _SAFE.yaml_implicit_resolvers.items()
        },
    },
)
