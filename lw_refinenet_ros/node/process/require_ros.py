# SPDX-License-Identifier: Apache-2.0
"""Whether ROS can be used by this process, and if not, what to do."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from pathlib import Path

from lw_refinenet_ros.node.process.fast_dds import require_shared_memory

__all__ = ['require_ros']


def require_ros() -> None:
    """Import rclpy, or say in one line why that cannot be.

    Raises:
        OSError: rclpy is missing, built for another Python, or lacks its libraries; or shared memory is full.
    """
    require_shared_memory()
    try:
        importlib.import_module('rclpy')
    except ImportError as error:
        raise OSError(f'this needs ROS 2, but {_cause(error)}') from error


def _cause(error: ImportError) -> str:
    major, minor = sys.version_info[:2]
    python = f'{sys.executable} (Python {major}.{minor})'
    if error.name == 'rclpy' or (spec := importlib.util.find_spec('rclpy')) is None or not spec.origin:
        return f'{python} has no rclpy: source the setup.bash of a ROS 2, or install one by make venv'
    folder = Path(spec.origin).parent
    built = re.findall(r'\.cpython-3(\d+)', ' '.join(path.name for path in folder.glob('_rclpy_pybind11.*')))
    if built and str(minor) not in built:
        return (
            f'{folder} is built for Python 3.{built[0]}, not for {python}: leave conda or the virtual '
            f'environment, or make one with that Python (make venv PYTHON=python3.{built[0]})'
        )
    first = str(error).splitlines()[0]
    return f'{folder} cannot be loaded: {first}; source the setup.bash that belongs to it'
