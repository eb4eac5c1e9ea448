# SPDX-License-Identifier: Apache-2.0
"""The `lw_refinenet` command: parses, calls one module, and turns errors into exit codes."""

from __future__ import annotations

import argparse
import importlib
import keyword
import os
import sys

from lw_refinenet_ros import __version__

__all__ = ['main']

COMMANDS = (
    'info',
    'segment',
    'evaluate',
    'compare',
    'play',
    'label',
    'train',
    'import',
    'receptive-field',
    'export',
    'quantize',
    'benchmark',
    'demo',
)


def main(arguments: list[str] | None = None) -> int:
    """Run a command: 0 done, 1 the input was at fault, 2 wrong usage, 130 interrupted."""
    # Their complaints about damaged files would stand beside our one line that says it.
    os.environ.setdefault('OPENCV_LOG_LEVEL', 'SILENT')
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
    try:
        options = _parser().parse_args(arguments)
        status: int = options.run(options) or 0
    except (ValueError, OSError) as error:
        print(f'lw_refinenet: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('lw_refinenet: interrupted', file=sys.stderr)
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    """Give the parser of all commands; their modules are light until they run."""
    parser = argparse.ArgumentParser(
        prog='lw_refinenet', description='Semantic segmentation with Light-Weight RefineNet.'
    )
    parser.add_argument('--version', action='version', version=f'lw_refinenet_ros {__version__}')
    commands = parser.add_subparsers(metavar='COMMAND', required=True)
    for name in COMMANDS:
        file = f'{name}_' if keyword.iskeyword(name) else name.replace('-', '_')
        module = importlib.import_module(f'lw_refinenet_ros.cli.{file}')
        description = (module.__doc__ or '').strip()
        command = commands.add_parser(name, help=description.splitlines()[0], description=description)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


if __name__ == '__main__':
    sys.exit(main())
