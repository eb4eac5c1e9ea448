# SPDX-License-Identifier: Apache-2.0
"""Examine a running system or a file of Nav2 parameters; report what is wrong and how to fix it.

The exit status is 1 if there is a fault.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from lw_refinenet_ros.class_groups import read_groups
from lw_refinenet_ros.cli.options import NODE, UsageError, add_groups_argument, label_set, number
from lw_refinenet_ros.cli.outputs import DIAGNOSIS, Declared, Output
from lw_refinenet_ros.cli.table import Colored, print_table
from lw_refinenet_ros.files import write_json
from lw_refinenet_ros.labels import UNLABELLED_NAME
from lw_refinenet_ros.node.doctor.finding import FAULT, OK, WARNING, Finding, fault
from lw_refinenet_ros.node.doctor.judge import judge
from lw_refinenet_ros.node.process.middleware import SUPER_CLIENT
from lw_refinenet_ros.node.process.require_ros import require_ros
from lw_refinenet_ros.one_line import counted
from lw_refinenet_ros.resources import DEFAULT_WEIGHTS

__all__ = ['add_arguments', 'outputs', 'run']

COLORS = {OK: 32, WARNING: 33, FAULT: 31}  # of a terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--node', default=NODE, metavar='NAME', help=f'node to examine (default: {NODE})')
    parser.add_argument(
        '--seconds',
        type=number(float, 1),
        default=5.0,
        metavar='S',
        help='how long to examine it (default: 5)',
    )
    parser.add_argument(
        '--params', type=Path, metavar='FILE', help='check a Nav2 parameter file instead; needs no ROS'
    )
    parser.add_argument('--weights', metavar='NAME|FILE', help='weights for --params (default: camvid)')
    add_groups_argument(parser)
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the findings as JSON')


def outputs(options: argparse.Namespace) -> Declared:
    read = (options.params, options.weights, options.class_groups)
    return [Output('--json', options.json, DIAGNOSIS)], read


def run(options: argparse.Namespace) -> int:
    """Print the findings; return 1 if there is a fault."""
    if (options.weights or options.class_groups) and not options.params:
        option = '--weights' if options.weights else '--class-groups'
        raise UsageError(f'{option} is for --params; a running node publishes its own classes')
    if options.params:
        classes = label_set(options.weights, read_groups(options.class_groups))
        of = options.weights or DEFAULT_WEIGHTS
        if options.class_groups:
            of += f' in the groups of {options.class_groups}'
        elif not options.weights:
            of += ' (--weights and --class-groups name others)'
        findings = list(_of_file(options.params, classes.names, of))
    else:
        findings = _of_graph('/' + options.node.strip('/'), options.seconds)
    print_table([row for finding in findings for row in _rows(finding)], '<<w')
    counts = {level: sum(finding.level == level for finding in findings) for level in (FAULT, WARNING, OK)}
    plural = {level: counted(count, level) for level, count in counts.items()}
    print(f'{plural[FAULT]}, {plural[WARNING]}, {counts[OK]} ok')
    if options.json is not None:
        content = {
            'faults': counts[FAULT],
            'warnings': counts[WARNING],
            'findings': list(map(asdict, findings)),
        }
        write_json(options.json, content)
    return 1 if counts[FAULT] else 0


def _of_file(file: Path, classes: Sequence[str], of: str) -> Iterator[Finding]:
    from lw_refinenet_ros.nav2_layer import PLUGIN
    from lw_refinenet_ros.node.doctor.nav2_parameters import check_costmap, layers
    from lw_refinenet_ros.node.process.parameter_files import read_sections

    costmaps = [section for section in read_sections(str(file)) if layers(section[1])]
    if not costmaps:
        yield fault(str(file), f'no layer with plugin: {PLUGIN}', 'write one with `lw_refinenet costmap`')
    names = (*classes, UNLABELLED_NAME)
    for costmap, parameters in costmaps:
        for finding in check_costmap(parameters, names, of):
            yield replace(finding, check=f'{costmap}/{finding.check}')


def _of_graph(node: str, seconds: float) -> list[Finding]:
    require_ros()
    os.environ.setdefault(SUPER_CLIENT, 'TRUE')  # else Fast DDS' discovery server tells it of few topics
    from lw_refinenet_ros.node.doctor.collect import collect
    from lw_refinenet_ros.node.process.ros_context import ros_context

    print(f'examining {node} for {seconds:g} s', file=sys.stderr)
    with ros_context([]) as started:
        started()
        return list(judge(collect(node, seconds)))
    raise KeyboardInterrupt


def _rows(finding: Finding) -> Iterator[tuple[str, str, str]]:
    yield Colored(finding.level, COLORS[finding.level]), finding.check, finding.value
    if finding.remedy:
        yield '', '', f'-> {finding.remedy}'
