# SPDX-License-Identifier: Apache-2.0
"""Results on disk: whole under their final name, or not there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lw_refinenet_ros.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ['write_json', 'write_text']


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text; a file name that is none is written as JSON escapes it."""
    content = text.encode('utf-8', 'backslashreplace')
    write_atomically(path, lambda file: file.write_bytes(content))


def write_json(path: str | Path, data: Mapping[str, Any]) -> None:
    """Write indented JSON, keys in the order given; NaN, which JSON does not have, is a ValueError."""
    write_text(path, _indented(data, '') + '\n')


def _indented(value: Any, indent: str) -> str:
    """Return JSON with a line per entry, but lists of plain values on one line."""
    inner = f'{indent}  '
    if isinstance(value, dict) and value:
        rows = [f'{_plain(str(key))}: {_indented(entry, inner)}' for key, entry in value.items()]
        return '{\n' + ',\n'.join(inner + row for row in rows) + f'\n{indent}}}'
    if isinstance(value, list | tuple) and any(isinstance(entry, dict | list | tuple) for entry in value):
        return '[\n' + ',\n'.join(inner + _indented(entry, inner) for entry in value) + f'\n{indent}]'
    return _plain(value)


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
