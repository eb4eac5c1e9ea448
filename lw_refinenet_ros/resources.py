# SPDX-License-Identifier: Apache-2.0
"""Locate the files of the package: weights, configuration, launch files."""

import os
from pathlib import Path

from lw_refinenet_ros.one_line import unknown

__all__ = ['DEFAULT_WEIGHTS', 'find_weights', 'share_path']

PACKAGE = 'lw_refinenet_ros'
DEFAULT_WEIGHTS = 'camvid'


def share_path(relative: str) -> Path:
    """Find a file or folder of the package, such as `weights/camvid.safetensors`.

    Looks in the source checkout of the running code, then in the `share` folder of its installation prefix.
    This works for colcon and pip, without sourcing anything.

    Raises:
        FileNotFoundError: the file does not exist; the message lists where it was looked for.
    """
    candidates = [folder / relative for folder in _share_folders()]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    looked = ', '.join(map(str, candidates)) or 'no folder: the package is not completely installed'
    message = f'{relative!r} is not among the files of {PACKAGE}; looked for {looked}'
    raise FileNotFoundError(message)


def find_weights(weights: str | os.PathLike[str]) -> Path:
    """Return the path of shipped weights, by name, or of a weights file.

    Raises:
        ValueError: there are no shipped weights of that name, or a home directory does not exist.
    """
    weights = os.fspath(weights)
    try:
        path = Path(weights).expanduser()
    except RuntimeError as error:
        raise ValueError(f'{weights}: there is no such home directory; write the full path') from error
    runs = [path / f'{name}.safetensors' for name in ('best', 'last')]
    if trained := [file for file in runs if os.path.isfile(file)]:  # noqa: PTH113 (takes any name)
        raise ValueError(f'{weights} is the folder of a training run: did you mean {trained[0]}?')
    if '/' in weights or weights.endswith('.safetensors'):
        return path
    shipped = {file.stem: file for file in sorted(share_path('weights').glob('*.safetensors'))}
    if weights not in shipped:
        here = os.path.isfile(path)  # noqa: PTH113 (takes any name)
        named = f'the file here is ./{weights}' if here else 'to name a file, write its path'
        raise ValueError(f'{unknown("weights", weights, tuple(shipped))}; {named}')
    return shipped[weights]


def _share_folders() -> list[Path]:
    """Return all folders with files of the package, nearest first."""
    package = Path(__file__).resolve().parent
    checkout = [package.parent] if (package.parent / 'package.xml').is_file() else []
    installed = (prefix / 'share' / PACKAGE for prefix in package.parents)
    return checkout + [folder for folder in installed if folder.is_dir()]
