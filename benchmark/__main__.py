# SPDX-License-Identifier: Apache-2.0
"""Run all benchmarks of this folder, or the named ones: `python -m benchmark [NAME...]`."""

import importlib
import sys
from pathlib import Path

TABLES = sorted(f.stem for f in Path(__file__).parent.glob('[!_]*.py') if 'def main' in f.read_text())
# Take hours, or ten minutes as root; run only when named
LONG = {'faults', 'labelling', 'network', 'self_training'}

names = sys.argv[1:] or [name for name in TABLES if name not in LONG]
if unknown := [name for name in names if name not in TABLES]:
    sys.exit(f'no table {", ".join(unknown)}: there are {", ".join(TABLES)}')
missing = 0
for name in names:
    try:
        importlib.import_module(f'benchmark.{name}').main()
    except SystemExit as unable:  # a table that cannot run here does not stop the others
        print(unable.code, file=sys.stderr)
        missing += 1
sys.exit(missing > 0 and bool(sys.argv[1:]))  # among all tables, some may lack a GPU or data
