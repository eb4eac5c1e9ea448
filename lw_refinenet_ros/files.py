# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole under their name, or not at all."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

__all__ = ['write_atomically']


def write_atomically(path: Path | str, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, then put it in its place in one step.

    Whatever goes wrong, what was there before stays, and nothing is left beside it.

    Args:
        path: of the file, in an existing folder.
        write: is given the path to write to.

    Raises:
        OSError: of the disk, naming `path`; and what `write` raises.

    """
    path = Path(path)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}-{threading.get_native_id()}.tmp')
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(mode)  # safetensors makes files that nobody else may read
        temporary.replace(path)
    except OSError as error:  # that the disk is full is said without a name, all else with the temporary one
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
