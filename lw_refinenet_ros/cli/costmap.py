# SPDX-License-Identifier: Apache-2.0
"""Write the parameters of Nav2's semantic segmentation layer for the classes of any weights.

A class that no option names gets the usual type for its name, or else careful.
"""

from __future__ import annotations

import argparse
import re

from lw_refinenet_ros.class_groups import read_groups
from lw_refinenet_ros.cli.options import NODE, add_groups_argument, file_ending_in, label_set
from lw_refinenet_ros.cli.outputs import COSTMAP, Declared, Output
from lw_refinenet_ros.files import write_text
from lw_refinenet_ros.nav2_layer import TYPES, assign_types, guessed, write_layer
from lw_refinenet_ros.resources import DEFAULT_WEIGHTS

__all__ = ['add_arguments', 'outputs', 'run']

NAME = re.compile(r'[A-Za-z]\w*(/[A-Za-z]\w*)*', re.ASCII)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('weights', nargs='?', metavar='WEIGHTS', help='(default: camvid)')
    add_groups_argument(parser)
    for kind, costs in TYPES.items():
        text = f'classes of cost {" to ".join(map(str, sorted({costs.base_cost, costs.max_cost})))}'
        parser.add_argument(f'--{kind}', nargs='+', action='extend', default=[], metavar='CLASS', help=text)
    parser.add_argument('--cameras', nargs='+', default=[''], metavar='NAME', help="the node's `cameras`")
    parser.add_argument('--node', default=NODE, metavar='NAME', help=f'node of the topics (default: {NODE})')
    parser.add_argument(
        '--output',
        type=file_ending_in('.yaml', '.yml'),
        metavar='FILE',
        help='file to write (default: standard output)',
    )


def outputs(options: argparse.Namespace) -> Declared:
    return [Output('--output', options.output, COSTMAP)], [options.weights, options.class_groups]


def run(options: argparse.Namespace) -> None:
    """Write the parameters."""
    node = '/' + options.node.strip('/')
    for name in (options.node.strip('/'), *filter(None, options.cameras)):
        if not NAME.fullmatch(name):
            raise ValueError(f'{name!r} cannot be part of a topic: use letters, digits, _ and / between them')
    names = label_set(options.weights, read_groups(options.class_groups)).names
    chosen = {kind: getattr(options, kind) for kind in TYPES}
    types, note = assign_types(names, chosen), guessed(names, chosen)
    text = write_layer(
        types,
        weights=options.weights or DEFAULT_WEIGHTS,
        node=node,
        cameras=options.cameras,
        class_groups=options.class_groups,
        note=note,
    )
    if options.output is None:
        print(text, end='')
    else:
        write_text(options.output, text)
        counts = ', '.join(f'{kind} {len(names)}' for kind, names in types.items())
        print('; '.join(filter(None, [f'{options.output}: {counts} classes', note])))
