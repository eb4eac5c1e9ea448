# SPDX-License-Identifier: Apache-2.0
"""Asks for known vulnerabilities of the locked packages, and says of which nothing is known: `make audit`.

Ends with 1 where a vulnerability is known, with 0 where none is or none could be asked for: in both of these
pip-audit itself says "no known vulnerabilities found". With --offline it asks nobody, and says which packages
of the environment that runs it are others than the pinned ones, whose audit would tell nothing of them.
"""

import json
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

FOLDER = Path(__file__).parent
LOCK = FOLDER / 'lock-wheels.txt'
PINNED = re.compile(r'^([\w.-]+)==([^\s;]+)', re.MULTILINE)
OF_THE_ENVIRONMENT = {'pip', 'lw-refinenet-ros'}


def main() -> int:
    """Audit, and return the exit status."""
    return check_installed() if sys.argv[1:] == ['--offline'] else ask()


def check_installed() -> int:
    """Compare what is installed with the constraints; a NAME of ROS is part of the wheel ros-NAME."""
    pinned: dict[str, set[str]] = {}
    for name, version in PINNED.findall((FOLDER / 'constraints.txt').read_text()):
        pinned.setdefault(name, set()).add(version)
    installed = {re.sub(r'[-_.]+', '-', d.name).lower(): d.version.partition('+')[0] for d in distributions()}
    faults = 0
    for name, version in sorted(installed.items()):
        versions = pinned.get(name, set())
        if name not in OF_THE_ENVIRONMENT and f'ros-{name}' not in installed and version not in versions:
            say(f'{name} {version} is installed, pinned is {", ".join(sorted(versions)) or "no version"}')
            faults += 1
    say(f'{len(installed)} packages installed, {faults} other than pinned')
    return int(faults > 0)


def ask() -> int:
    """Run pip-audit on the lock."""
    how = ['--require-hashes', '--disable-pip', '--progress-spinner', 'off', '--format', 'json']
    done = subprocess.run(
        [sys.executable, '-m', 'pip_audit', '-r', str(LOCK), *how], capture_output=True, text=True
    )
    try:
        packages = json.loads(done.stdout)['dependencies']
    except (ValueError, KeyError):
        last = (done.stderr.strip().splitlines() or ['it said nothing'])[-1]
        return say(f'nothing was audited: pip-audit did not reach its database: {last[:200]}')
    for package in packages:
        for fault in package.get('vulns', []):
            fixed = ', '.join(fault['fix_versions']) or 'no version yet'
            say(f'{package["name"]} {package["version"]}: {fault["id"]}, fixed in {fixed}')
    unknown = [package['name'] for package in packages if 'skip_reason' in package]
    vulnerable = sum(bool(package.get('vulns')) for package in packages)
    asked = len(packages) - len(unknown)
    if not asked:
        return say(f'nothing was audited: the database answered for none of {len(packages)} packages')
    say(f'{asked} of {len(packages)} packages audited, {vulnerable} with known vulnerabilities')
    if unknown:
        say(f'the database knows nothing of {", ".join(unknown)}')
    return int(vulnerable > 0)


def say(line: str) -> int:
    """Print a line; 0 is what a run ends with that found nothing."""
    sys.stdout.write(f'audit: {line}\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
