# SPDX-License-Identifier: Apache-2.0
"""Print the licences of the locked packages from their installed metadata: `make licences`."""

import re
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from xml.etree import ElementTree

HEAD = """# Licences of the dependencies

Made by `make licences` from the metadata of what `make venv` installs without ROS: the packages of
`requirements/lock-wheels.txt`, as installed for Python {python}. The package itself is Apache-2.0.
NVIDIA's libraries come with the CUDA build of torch only; their terms are in their own files.

| package | version | licence |
|---|---|---|"""
PINNED = re.compile(r'^([\w.-]+)==([^\s;]+)', re.MULTILINE)


def licence_of(name: str) -> str:
    """Return the licence of an installed package in its own words, the most exact first."""
    about = metadata(name)
    classifiers = [c.split(' :: ')[-1] for c in about.get_all('Classifier', []) if c.startswith('License ::')]
    named = about.get('License-Expression') or ', '.join(c for c in classifiers if c != 'OSI Approved')
    text = (about.get('License') or '').strip().splitlines()  # some put the whole text here
    return named or (text[0] if text else '') or licence_of_ros(name) or 'not said in its metadata'


def licence_of_ros(name: str) -> str:
    """Return the licence in a ROS package's manifest; the metadata of its wheel have none."""
    package = re.sub('^ros-(kilted-|jazzy-)?', '', name).replace('-', '_')
    manifest = Path(sys.prefix, 'share', package, 'package.xml')
    if not manifest.is_file():
        return ''
    return ', '.join(element.text for element in ElementTree.parse(manifest).findall('license'))


def main() -> None:
    """Print the table; a package that is not installed on this machine says so."""
    rows = {}
    lock = Path(__file__).with_name('lock-wheels.txt').read_text()
    for name, version in PINNED.findall(lock):
        try:
            installed = metadata(name)['Version'].partition('+')[0]
            rows[name] = f'| {name} | {installed} | {licence_of(name)} |'
        except PackageNotFoundError:
            rows.setdefault(name, f'| {name} | {version} | not installed where this was made |')
    head = HEAD.format(python='.'.join(map(str, sys.version_info[:2])))
    sys.stdout.write('\n'.join([head, *rows.values(), '']))


if __name__ == '__main__':
    main()
