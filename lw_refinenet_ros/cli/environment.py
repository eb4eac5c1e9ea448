# SPDX-License-Identifier: Apache-2.0
"""The machine, and the conditions of a run for its report: machine, versions, commit and date."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from lw_refinenet_ros import __version__

__all__ = ['conditions', 'machine']

PACKAGES = ('torch', 'openvino', 'opencv-python-headless', 'rclpy')


def machine() -> str:
    """Return this machine's processor, cores and system in one line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.is_file():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith('model name')]
        model = lines[0].split(':', 1)[1].strip() if lines else model
    return f'{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}'


def conditions() -> dict[str, str]:
    """Return the conditions in the order in which a report shows them."""
    versions = [f'lw_refinenet_ros {__version__}', f'Python {platform.python_version()}']
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f'{package} {importlib.metadata.version(package)}')
    conditions = {'machine': machine(), 'versions': ', '.join(versions)}
    with suppress(OSError, subprocess.CalledProcessError):  # an installed package has no commit
        _git('ls-files', '--error-unmatch', Path(__file__).name)
        conditions['commit'] = _git('describe', '--always', '--dirty')
    conditions['date'] = datetime.now(timezone.utc).strftime('%Y-%m-%d %H:%M UTC')
    return conditions


def _git(*arguments: str) -> str:
    command = ['git', *arguments]
    folder = Path(__file__).resolve().parent
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()
