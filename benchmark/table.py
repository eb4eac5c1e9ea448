# SPDX-License-Identifier: Apache-2.0
"""Print result tables, and store them as Markdown and JSON with machine, versions and date."""

import datetime
import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from lw_refinenet_ros.cli.environment import machine
from lw_refinenet_ros.inference.choice import has_bf16

__all__ = ['store']

RESULTS = Path(__file__).parent / 'results'


def store(
    name: str, title: str, rows: list[dict], notes: list[str], packages: tuple[str, ...], by_cpu: bool = False
) -> None:
    """Print rows of equal keys as a Markdown table, and write results/NAME.md and NAME.json.

    Args:
        name: the name of the files.
        title: the title of the table.
        rows: unrounded numbers, None for what is not known; the Markdown shows them with thousands
            separators and one decimal, or three decimals below 1.
        notes: sentences on what was measured and what it shows.
        packages: packages whose versions affect the figures.
        by_cpu: keep the tables of CPUs with and without native bf16 apart, the latter in NAME_without_bf16.
    """
    if by_cpu and not has_bf16('cpu'):
        name += '_without_bf16'
    environment = {
        'machine': machine(),
        'load': round(os.getloadavg()[0], 1),
        'python': platform.python_version(),
        **{package: version(package) for package in packages},
        'date': datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        'commit': _commit(),
    }
    columns = list(rows[0])
    lines = [f'# {title}', '', f'| {" | ".join(columns)} |']
    lines.append('|' + '|'.join('---' if isinstance(rows[0][c], str) else '--:' for c in columns) + '|')
    lines += [f'| {" | ".join(_cell(row[c]) for c in columns)} |' for row in rows]
    lines += ['', *(f'{note}\n' for note in notes)]
    lines.append(', '.join(f'{key} {value}' for key, value in environment.items()))
    text = '\n'.join(lines) + '\n'
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f'{name}.md').write_text(text)
    content = {'title': title, 'environment': environment, 'rows': rows, 'notes': notes}
    (RESULTS / f'{name}.json').write_text(json.dumps(content, indent=1) + '\n')


def _cell(value: object) -> str:
    if value is None:
        return '-'
    if isinstance(value, float):
        return f'{value:.3f}' if abs(value) < 1 else f'{value:,.1f}'
    return f'{value:,}' if isinstance(value, int) else str(value)


def _commit() -> str:
    """Return the measured commit, with `-dirty` if the tree had changes."""
    command = ['git', '-C', str(RESULTS.parent), 'describe', '--always', '--dirty', '--exclude', '*']
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or 'not a git checkout'
