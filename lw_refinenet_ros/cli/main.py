# SPDX-License-Identifier: Apache-2.0
"""The `lw_refinenet` command: parses, calls one module, and turns errors into exit codes."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TextIO, cast

from lw_refinenet_ros.cli.interruption import run_interruptible
from lw_refinenet_ros.cli.terminal import Harmless, complain
from lw_refinenet_ros.limits import MAX_PIXELS

__all__ = ['main']

BROKEN_PIPE = 141  # the status of a program ended by SIGPIPE


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its status: 0 done, 1 bad input, 2 wrong usage, 130 SIGINT, 143 SIGTERM.

    Args:
        arguments: None takes those of this process and also handles its signals.
    """
    return run_interruptible(_run) if arguments is None else _run(arguments)


def _run(arguments: list[str] | None = None) -> int:
    # These imports take half a second, and signals must already be handled then.
    from lw_refinenet_ros.cli.options import UsageError
    from lw_refinenet_ros.cli.outputs import check_outputs
    from lw_refinenet_ros.cli.parser import parse

    for name in ('stdin', 'stdout', 'stderr'):  # those that the shell closed
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open('r' if name == 'stdin' else 'w'))  # noqa: SIM115
    # Their messages about damaged files would appear beside our own one-line message.
    os.environ.setdefault('OPENCV_LOG_LEVEL', 'SILENT')
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
    os.environ.setdefault('OPENCV_IO_MAX_IMAGE_PIXELS', str(MAX_PIXELS))
    out, err = (cast('TextIO', Harmless(stream)) for stream in (sys.stdout, sys.stderr))
    with redirect_stdout(out), redirect_stderr(err):
        try:
            options = parse(sys.argv[1:] if arguments is None else arguments)
            _check_current_folder()
            if options.outputs:
                check_outputs(*options.outputs(options))
            status: int = options.run(options) or 0
            sys.stdout.flush()
        except BrokenPipeError:
            _discard_output()
            return BROKEN_PIPE
        except (ValueError, OSError) as error:
            complain(_message(error))
            return 2 if isinstance(error, UsageError) else 1
        except KeyboardInterrupt:
            complain('interrupted')
            return 130
        return status


def _check_current_folder() -> None:
    """Refuse to work in a folder that was removed: relative paths mean nothing, and libraries abort."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise ValueError('the current folder was removed: change to another') from error


def _message(error: ValueError | OSError) -> str:
    """Return an error's message; further lines, of one that lists several faults, are indented."""
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f'{os.fsdecode(error.filename)}: {error.strerror}'
    return '\n  '.join(text.splitlines()) or type(error).__name__


def _discard_output() -> None:
    """Discard buffered output: its reader has ended, and Python would complain at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == '__main__':
    sys.exit(main())
