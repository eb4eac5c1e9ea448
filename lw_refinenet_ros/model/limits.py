# SPDX-License-Identifier: Apache-2.0
"""Bounds on what a weights file may be, checked before any of it is believed."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any, NoReturn

from lw_refinenet_ros.files import open_regular

__all__ = ['MAX_BYTES', 'MAX_DEPTH', 'MAX_HEADER_BYTES', 'check_file', 'parse_json']

MAX_BYTES = 1 << 30  # no network of this family comes near
MAX_HEADER_BYTES = 4 << 20  # names, types and shapes of a thousand tensors take a tenth of it
MAX_DEPTH = 16  # of lists and dictionaries in each other; a card has four


def check_file(path: Path) -> None:
    """Check that a safetensors file is a file, and that it and its header are of a size that can be.

    Raises:
        ValueError: it is not a regular file (reading a pipe might never end), or too large.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        size, start = os.fstat(file.fileno()).st_size, file.read(8)
    if size > MAX_BYTES:
        raise ValueError(f'{path} has {size} bytes, more than the {MAX_BYTES} that a network needs')
    header_bytes = struct.unpack('<Q', start)[0] if len(start) == 8 else 0
    if MAX_HEADER_BYTES < header_bytes < size:  # one past the end is safetensors' to report
        raise ValueError(f'{path} has a header of {header_bytes} bytes; {MAX_HEADER_BYTES} are allowed')


def parse_json(text: str) -> Any:
    """Parse JSON of at most `MAX_DEPTH` levels whose numbers are finite.

    Raises:
        ValueError: it is not.
    """
    try:
        parsed = json.loads(text, parse_constant=_refuse_constant)
        too_deep = _depth(parsed) > MAX_DEPTH
    except RecursionError:
        too_deep = True
    if too_deep:
        raise ValueError(f'it is nested more than {MAX_DEPTH} levels deep')
    return parsed


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f'{name} is not a finite number')


def _depth(parsed: Any) -> int:
    """Count the levels of lists and dictionaries, level by level: recursion has bounds of its own."""
    depth, level = 0, [parsed]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth
