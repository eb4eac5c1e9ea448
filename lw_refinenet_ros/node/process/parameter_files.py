# SPDX-License-Identifier: Apache-2.0
"""The parameter files that the node is started with: bounded, and only with names that it knows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

from lw_refinenet_ros.bounded_yaml import read_yaml
from lw_refinenet_ros.one_line import one_line

__all__ = ['MAX_BYTES', 'ParameterFiles', 'read_sections', 'unknown_name']

MAX_BYTES = 256 << 10  # a whole robot's parameters; rcl takes seconds for that many, minutes for a megabyte
FILE_FLAG, PARAMETER_FLAGS, PARAMETERS_KEY = '--params-file', ('-p', '--param'), 'ros__parameters'
WILDCARDS = ('*', '**')  # one part of a node's name, and any number of them


class ParameterFiles:
    """Reads the parameters that a command line sets.

    Args:
        arguments: of the process, with each `--params-file FILE` and `-p NAME:=VALUE`.

    Raises:
        ValueError: a file cannot be read, is not a regular file, too large, nested too deeply or not YAML; or
            a parameter has no value.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        given = list(pairwise(arguments))
        self._files = {name: read_sections(name) for flag, name in given if flag == FILE_FLAG}
        rules = [rule.partition(':=') for flag, rule in given if flag in PARAMETER_FLAGS]
        for name, sign, value in rules:
            if not value:
                wanted = 'write NAME:=VALUE, and for an empty text NAME:="\'\'"'
                raise ValueError(f'-p {name}{sign} has no value: {wanted}')
        self._arguments = [name for name, *_ in rules if ':' not in name]

    def value(self, node: str, name: str) -> Any:
        """Return the value of a node's parameter in the files, None if they do not set it."""
        every = (section for sections in self._files.values() for section in sections)
        given = [values[name] for key, values in every if _is_for(key, node) and name in values]
        return given[-1] if given else None  # the last wins

    def check(self, node: str, known: Collection[str], declared: Callable[[str], bool]) -> list[str]:
        """Compare the names with those of a node.

        Args:
            node: its fully qualified name.
            known: names of its own parameters, to suggest.
            declared: tells whether the node has a parameter of a name.

        Returns:
            a line for each file without a section for the node, and for unknown names where they may be meant
            for other nodes: in a section that names no node, or given to every process by a launch file.

        Raises:
            ValueError: a section that names the node has unknown parameters.
        """
        warnings = []

        def unknown(names: Collection[str], where: str) -> str:
            lines = [
                unknown_name(n, known) for n in names if not (declared(n) or n.startswith('qos_overrides.'))
            ]
            return one_line(f'{where}: {"; ".join(lines)}; there are {", ".join(known)}') if lines else ''

        for file, sections in self._files.items():
            ours = [section for section in sections if _is_for(section[0], node)]
            if not ours:
                listed = ', '.join(key for key, _ in sections) or 'none'
                remedy = f'call one {node}, or /**/{node.rpartition("/")[2]} for any namespace'
                warnings.append(
                    one_line(f'{file} has no section for {node}; it has those of {listed}: {remedy}')
                )
            for key, names in ours:
                fault = unknown(names, f'{file}: {key}')
                if fault and key.rpartition('/')[2] not in WILDCARDS:
                    raise ValueError(fault)
                warnings.append(fault)
        warnings.append(unknown(self._arguments, 'command line'))
        return [warning for warning in warnings if warning]


def unknown_name(name: str, known: Collection[str]) -> str:
    """Return the message for an unknown name, with the most similar known one."""
    similar = get_close_matches(name, known, 1)
    return f'no parameter is called {name!r}' + (f', did you mean {similar[0]!r}?' if similar else '')


def read_sections(file: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the name of each node in a parameter file, wildcards included, and its parameters by name.

    Raises:
        ValueError: it cannot be read, is not a regular file, too large, nested too deeply or not YAML, or it
            has a value outside the parameters of a node, which rcl refuses as well.
    """
    try:
        content = read_yaml(file, MAX_BYTES)
    except OSError as error:
        raise ValueError(f'{file}: {error.strerror}; name a YAML file of parameters') from error
    try:
        return list(_sections(content))
    except ValueError as error:
        raise ValueError(f'{file}: {error}') from error


def _sections(content: Any, name: str = '') -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each node's name in a file, wildcards included, and its parameters.

    Raises:
        ValueError: there is a value outside the parameters of a node.
    """
    if isinstance(content, dict):
        for key, value in content.items():
            if key == PARAMETERS_KEY:
                yield name, dict(_values(value))
            else:
                yield from _sections(value, f'{name}/{str(key).strip("/")}')
    elif name:
        wanted = f'NODE: {{{PARAMETERS_KEY}: {{NAME: VALUE}}}}'
        raise ValueError(f'{one_line(name)} is not below {PARAMETERS_KEY}: write {wanted}')


def _values(content: Any, prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Yield each parameter's name and value; one in a mapping is called MAPPING.NAME."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _values(value, f'{prefix}.{key}' if prefix else str(key))
    elif prefix:
        yield prefix, content


def _is_for(section: str, node: str) -> bool:
    """Return whether a section, which may have wildcards, is for a node."""
    parts = node.strip('/').split('/')
    places = {0}  # numbers of parts that the tokens so far may stand for
    for token in section.strip('/').split('/'):
        if token == '**':
            places = set(range(min(places, default=len(parts) + 1), len(parts) + 1))
        else:
            places = {n + 1 for n in places if n < len(parts) and token in ('*', parts[n])}
    return len(parts) in places
