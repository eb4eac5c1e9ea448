# SPDX-License-Identifier: Apache-2.0
"""The direction of imports between the package's layers, read from the import statements."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePath

import pytest

import lw_refinenet_ros

PACKAGE = 'lw_refinenet_ros'
ROOT = Path(lw_refinenet_ros.__file__).parent

LOWER = {'model', 'image', 'inference', 'sources'}
MAY_IMPORT = {
    '.': set(),  # the modules beside the layers, below all of them
    '__init__': {'model', 'image', 'inference'},  # hands names on
    'model': set(),
    'image': set(),
    'inference': {'model', 'image'},
    'sources': {'model', 'image'},
    'evaluation': LOWER,
    'training': LOWER,
    'node': LOWER,
    'cli': {*LOWER, 'evaluation', 'training', 'node'},
}
LAYER_OF = {
    'Segmenter': 'inference',
    'Segmentation': 'inference',
    'resources': '.',
    'files': '.',
    'labels': '.',
    'class_groups': '.',
    'bounded_yaml': '.',
    'lazy': '.',
    'limits': '.',
    'nav2_layer': '.',
    'one_line': '.',
    'process_wide': '.',
    'svg': '.',
    '__version__': '.',
}

ROS = {
    *('rclpy', 'builtin_interfaces', 'rcl_interfaces', 'lifecycle_msgs', 'diagnostic_msgs', 'rosgraph_msgs'),
    *(
        'sensor_msgs',
        'sensor_msgs_py',
        'std_msgs',
        'std_srvs',
        'vision_msgs',
        'tf2_msgs',
        'cv_bridge',
        'ament_index_python',
    ),
}
ROS_IN = {'node': ROS, 'image': {'cv_bridge'}}
ONLY_NEEDS = {'model': {'torch', 'safetensors'}}


def imported_modules(source: str, package: tuple[str, ...]) -> Iterator[str]:
    """Every module that is imported: at the top, in functions, for type checking; names in full.

    `from place import name` yields `place.name`, as name may be a module.
    """
    for statement in ast.walk(ast.parse(source)):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            start = package[: len(package) - statement.level + 1] if statement.level else ()
            place = '.'.join([*start, *filter(None, [statement.module])])
            yield from (f'{place}.{alias.name}' for alias in statement.names)


def violations(file: PurePath, source: str) -> Iterator[str]:
    """Return what a file, named from the package's root, imports and must not."""
    layer = file.parts[0] if len(file.parts) > 1 else file.stem if file.stem == '__init__' else '.'
    if layer not in MAY_IMPORT:
        yield f'{file} is in no layer'
        return
    for module in imported_modules(source, (PACKAGE, *file.parent.parts)):
        top, *inner = module.split('.')
        if top == PACKAGE:
            target = LAYER_OF.get(inner[0], inner[0]) if inner else None  # a bare `import lw_refinenet_ros`
            allowed = target in {layer, '.', *MAY_IMPORT[layer]}
        elif top in ROS:
            allowed = top in ROS_IN.get(layer, ())
        else:
            allowed = layer not in ONLY_NEEDS or top in ONLY_NEEDS[layer] or top in sys.stdlib_module_names
        if not allowed:
            yield f'{file} imports {module}'


def test_every_import_keeps_to_the_direction_of_the_layers():
    files = sorted(ROOT.rglob('*.py'))
    assert files
    assert [line for file in files for line in violations(file.relative_to(ROOT), file.read_text())] == []


def test_no_files_import_each_other_in_a_circle():
    names = {
        '.'.join((PACKAGE, *file.relative_to(ROOT).with_suffix('').parts)): file
        for file in ROOT.rglob('*.py')
    }
    imports = {
        name: {
            place
            for module in imported_modules(file.read_text(), (PACKAGE, *file.relative_to(ROOT).parent.parts))
            for place in (module, module.rpartition('.')[0])
            if place in names
        }
        for name, file in names.items()
    }
    assert sum(map(len, imports.values())) > 100
    graphlib.TopologicalSorter(imports).prepare()  # raises a CycleError that names the files


@pytest.mark.parametrize(
    ('file', 'statement'),
    [
        ('model/network.py', 'from lw_refinenet_ros.image import palette'),
        ('model/network.py', 'import numpy'),
        ('model/network.py', 'from lw_refinenet_ros import Segmenter'),
        ('image/palette.py', 'import lw_refinenet_ros.model.network'),
        ('image/palette.py', 'from sensor_msgs.msg import Image'),
        ('sources/bag.py', 'from lw_refinenet_ros.inference.segmenter import Segmenter'),
        ('inference/segmenter.py', 'from ..sources import bag'),
        ('inference/cuda/graph.py', 'from ...sources import bag'),
        ('evaluation/report.py', 'from lw_refinenet_ros import training'),
        ('training/loop.py', 'from lw_refinenet_ros.evaluation import confusion'),
        ('node/segmentation_node.py', 'def later():\n    from ..evaluation import confusion'),
        ('cli/play.py', 'import rclpy'),
        ('inference/segmenter.py', 'from lw_refinenet_ros.cli import main'),
        ('resources.py', 'from .node import segmentation_node'),
        ('labels.py', 'from lw_refinenet_ros.image.painting import paint_label'),
        ('tracking/track.py', 'import numpy'),
    ],
)
def test_an_import_against_the_direction_is_found(file, statement):
    assert list(violations(PurePath(file), statement))


@pytest.mark.parametrize(
    ('file', 'statement'),
    [
        ('__init__.py', 'from lw_refinenet_ros.inference import segmenter'),
        ('model/network.py', 'import math\nimport torch.nn.functional\nfrom . import decoder'),
        ('model/checkpoint.py', 'from lw_refinenet_ros.resources import share_path'),
        ('image/conversion.py', 'def convert():\n    import cv_bridge'),
        ('inference/cuda/graph.py', 'from ..segmenter import Segmenter\nfrom ...model import network'),
        ('node/replay/player.py', 'import rclpy\nfrom lw_refinenet_ros.sources import bag'),
        ('cli/play.py', 'from lw_refinenet_ros.node import player\nfrom lw_refinenet_ros import __version__'),
    ],
)
def test_an_import_along_the_direction_is_allowed(file, statement):
    assert list(violations(PurePath(file), statement)) == []


def test_importing_the_package_loads_neither_a_network_library_nor_ros():
    loaded = subprocess.check_output(
        [sys.executable, '-c', f'import sys, {PACKAGE}; print(*sys.modules)'],
        text=True,
        cwd=ROOT.parent,
    ).split()
    assert PACKAGE in loaded
    assert {'torch', 'rclpy', 'openvino'}.isdisjoint(loaded)
