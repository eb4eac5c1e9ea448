# SPDX-License-Identifier: Apache-2.0
"""Prints the versions that pip may install: constraints.py wheels-(jazzy|kilted|none)|release|DISTRO.

For the DISTRO of a ROS that is sourced, run by its Python, what it has keeps its version.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import distributions
from pathlib import Path

FOLDER = Path(__file__).parent
OF_THE_ENVIRONMENT = {'pip', 'setuptools'}  # it has its own


def read(name: str) -> list[str]:
    """Read the versions of a file."""
    return [line for line in (FOLDER / name).read_text().splitlines() if not line.startswith('#')]


def constraints(mode: str) -> list[str]:
    """Return the versions for an environment of one kind."""
    if mode == 'release':
        return read('constraints-release.txt')
    versions = read('constraints.txt')
    if mode in {'wheels-jazzy', 'wheels-none'}:
        return versions
    versions = [line for line in versions if not line.startswith('ros-')]
    if mode == 'wheels-kilted':
        return versions + read('constraints-kilted.txt')
    installed = {re.sub(r'[-_.]+', '-', d.name).lower(): d.version for d in distributions()}
    return list(beside_apt(versions, installed))


def beside_apt(versions: Iterable[str], installed: dict[str, str]) -> Iterator[str]:
    """Yield the versions of what is not installed (name: version), and keep NumPy and torch as they are."""
    for line in versions:
        name = re.match(r'[\w.-]+', line)[0]
        if name not in installed or name in OF_THE_ENVIRONMENT:
            yield line
    if 'torch' in installed:
        yield f'torch=={installed["torch"]}'
    # cv_bridge of Humble to Kilted is built for NumPy 1, which ends with Python 3.12
    keep = installed['numpy'].startswith('1.') or sys.version_info >= (3, 13)
    yield f'numpy=={installed["numpy"]}' if keep else 'numpy<2'


if __name__ == '__main__':
    sys.stdout.write('\n'.join([*constraints(sys.argv[1]), '']))
