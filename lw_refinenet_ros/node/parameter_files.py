# SPDX-License-Identifier: Apache-2.0
"""Bounds on the parameter files that the node is started with: rcl's own parser has none."""

from __future__ import annotations

import stat
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ['MAX_BYTES', 'MAX_DEPTH', 'check_parameter_files']

MAX_BYTES = 256 << 10  # a whole robot's parameters; rcl takes seconds for that many, minutes for a megabyte
MAX_DEPTH = 32  # of mappings and sequences in each other

FLAG = '--params-file'
LOADER = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)  # only its events are used: nothing is built


def check_parameter_files(arguments: Sequence[str]) -> None:
    """Check each file that follows `--params-file`.

    Raises:
        ValueError: one cannot be read, is not a regular file, too large, nested too deeply or not YAML.

    """
    for flag, name in pairwise(arguments):
        if flag == FLAG:
            _check(Path(name))


def _check(path: Path) -> None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            msg = f'{path} is not a regular file; give a YAML file of parameters'
            raise ValueError(msg)
        with path.open('rb') as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        msg = f'{path}: {error.strerror}; give a YAML file of parameters'
        raise ValueError(msg) from error
    if len(content) > MAX_BYTES:
        msg = f'{path} is larger than the {MAX_BYTES} bytes that a parameter file may have'
        raise ValueError(msg)
    depth = 0
    try:
        for event in yaml.parse(content, Loader=LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                msg = f'{path} is nested more than {MAX_DEPTH} levels deep'
                raise ValueError(msg)
    except yaml.YAMLError as error:
        msg = f'{path} is not YAML: {" ".join(str(error).split())}'
        raise ValueError(msg) from error
