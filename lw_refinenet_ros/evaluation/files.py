# SPDX-License-Identifier: Apache-2.0
"""Results on disk: whole under their final name, or not there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ['write_json', 'write_text']


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text to a temporary file beside `path` and put it in its place in one step."""
    path = Path(path)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        temporary.write_text(text, encoding='utf-8')
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, data: Mapping[str, Any]) -> None:
    """Write indented JSON, keys in the order given; NaN, which JSON does not have, is a ValueError."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + '\n')
