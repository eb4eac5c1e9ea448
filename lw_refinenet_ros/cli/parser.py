# SPDX-License-Identifier: Apache-2.0
"""The command-line parser; its errors suggest the nearest known name."""

from __future__ import annotations

import argparse
import importlib
import keyword
import sys
from pathlib import Path
from typing import Any, NoReturn

from lw_refinenet_ros import __version__
from lw_refinenet_ros.cli.options import path
from lw_refinenet_ros.one_line import unknown

__all__ = ['COMMANDS', 'build_parser', 'parse']

COMMANDS = (
    'info',
    'segment',
    'evaluate',
    'compare',
    'view',
    'play',
    'label',
    'train',
    'import',
    'receptive-field',
    'export',
    'quantize',
    'benchmark',
    'costmap',
    'doctor',
    'demo',
)
WRONG_USAGE = 2


class _Parser(argparse.ArgumentParser):
    """A parser whose errors list all missing arguments and suggest the nearest known name, in one line."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.register('type', Path, path)

    def error(self, message: str) -> NoReturn:
        """Print a message in one line, and exit with 2."""
        if ' required' in message:
            message = f'it needs {self._needed()}'
        self.exit(WRONG_USAGE, f'{self.prog}: {message}; see {self.prog} --help\n')

    def _needed(self) -> str:
        """List the required arguments, alternatives together."""
        needed = []
        grouped = []
        for group in self._mutually_exclusive_groups:
            grouped += group._group_actions
            if group.required:
                needed.append(' or '.join(map(_usage, group._group_actions)))
        alone = [action for action in self._actions if action.required and action not in grouped]
        needed += [_usage(action) for action in alone if action.nargs not in {'*', '?'}]
        return '; '.join(needed)

    def check_options(self, arguments: list[str]) -> None:
        """Refuse the first unknown option."""
        known = list(self._option_string_actions)
        for argument in arguments:
            if argument == '--':
                return
            name = argument.split('=', 1)[0]
            if name.startswith('--') and not any(option.startswith(name) for option in known):
                options = [option for option in known if option.startswith('--')]
                self.error(unknown('option', name, options))


def _usage(action: argparse.Action) -> str:
    value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if not action.option_strings:
        return value
    return action.option_strings[-1] if action.nargs == 0 else f'{action.option_strings[-1]} {value}'


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse a command line; the result holds `outputs` and `run`, which take the result.

    Raises:
        SystemExit: with 2 after wrong usage; with 0 after --help and --version.
    """
    parser, commands = _parsers()
    if not arguments:
        parser.print_help(sys.stderr)
        raise SystemExit(WRONG_USAGE)
    name = arguments[0]
    if not name.startswith('-') and name not in commands:
        parser.error(unknown('command', name, tuple(commands)))
    if name in commands:
        commands[name].check_options(arguments[1:])
    return parser.parse_args(arguments)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands, for shtab, which makes completions for bash and zsh of it."""
    return _parsers()[0]


def _parsers() -> tuple[_Parser, dict[str, _Parser]]:
    """Return the main parser and those of the commands; the modules import heavy packages only when run."""
    parser = _Parser(prog='lw_refinenet', description='Semantic segmentation with Light-Weight RefineNet.')
    parser.add_argument('--version', action='version', version=f'lw_refinenet_ros {__version__}')
    subparsers = parser.add_subparsers(metavar='COMMAND', required=True)
    commands = {}
    for name in COMMANDS:
        file = f'{name}_' if keyword.iskeyword(name) else name.replace('-', '_')
        module = importlib.import_module(f'lw_refinenet_ros.cli.{file}')
        description = (module.__doc__ or '').strip()
        command = subparsers.add_parser(name, help=description.partition('\n')[0], description=description)
        module.add_arguments(command)
        command.set_defaults(run=module.run, outputs=getattr(module, 'outputs', None))
        commands[name] = command
    return parser, commands
