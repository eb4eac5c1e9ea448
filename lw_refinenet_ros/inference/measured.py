# SPDX-License-Identifier: Apache-2.0
"""The fastest engines on this machine, measured by `lw_refinenet benchmark --save`, for 'auto'."""

from __future__ import annotations

import json
import operator
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import torch

from lw_refinenet_ros.files import write_json
from lw_refinenet_ros.inference.engine import DEVICES, ENGINES, PRECISIONS

__all__ = ['Choice', 'measured_path', 'read_measured', 'save_measured']


class Choice(NamedTuple):
    """An engine, a device and a precision, each of which may be 'auto' where it is a wish."""

    engine: str
    device: str
    precision: str


def measured_path() -> Path:
    """Return the file in the user's cache.

    Raises:
        OSError: there is no home folder, and no cache is named.
    """
    try:
        cache = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    except RuntimeError as error:  # as in a container, for a user whom its passwd does not list
        raise OSError(
            f'no home folder: set XDG_CACHE_HOME to a folder that can be written ({error})'
        ) from error
    return Path(cache) / 'lw_refinenet_ros' / 'fastest.json'


def save_measured(architecture: str, choices: list[Choice]) -> Path:
    """Keep the order in which engines run an architecture, fastest first; return the file.

    Raises:
        OSError: the user's cache cannot be written.
    """
    path = measured_path()
    fastest = _read(path)
    fastest[architecture] = [list(choice) for choice in choices]
    write_json(path, {'machine': _machine(), 'fastest': fastest})
    return path


def read_measured(architecture: str) -> list[Choice]:
    """Return what was measured for an architecture with this hardware and these versions, fastest first."""
    try:
        path = measured_path()
    except OSError:
        return []
    return [Choice(*row) for row in _read(path).get(architecture, [])]


def _read(path: Path) -> dict[str, list[list[str]]]:
    """Return the stored figures of this machine; an unreadable file counts as none."""
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        known = content['fastest'] if content['machine'] == _machine() else {}
        return {name: [row for row in rows if _is_choice(row)] for name, rows in known.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _is_choice(row: object) -> bool:
    known = (ENGINES, DEVICES, PRECISIONS)
    return isinstance(row, list) and len(row) == len(known) and all(map(operator.contains, known, row))


def _machine() -> dict[str, str | int | None]:
    """Describe what the figures depend on."""
    versions: dict[str, str | int | None] = {}
    for package in ('torch', 'openvino'):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return versions | {'node': platform.node(), 'cpus': os.cpu_count(), 'gpu': gpu}
