# SPDX-License-Identifier: Apache-2.0
"""Sphinx: the pages of this folder and the Python API; `make docs`, or rosdoc2."""

import ast
import sys
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the package is documented where it lies, not installed

MANIFEST = ElementTree.parse(ROOT / 'package.xml').getroot()
project = MANIFEST.findtext('name')
author = MANIFEST.findtext('maintainer')
copyright = author  # noqa: A001 - Sphinx's name for it
release = version = MANIFEST.findtext('version')

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
html_theme = 'sphinx_rtd_theme'
myst_heading_anchors = 3
# Pages link to files of the repository that are no pages; a test checks that every one exists.
suppress_warnings = ['myst.xref_missing']

# Building the pages needs neither ROS nor a network library: whatever the package imports is stood in for.
statements = [s for f in (ROOT / project).rglob('*.py') for s in ast.walk(ast.parse(f.read_text()))]
imported = {a.name.split('.')[0] for s in statements if isinstance(s, ast.Import) for a in s.names}
imported |= {s.module.split('.')[0] for s in statements if isinstance(s, ast.ImportFrom) and s.module}
autodoc_mock_imports = sorted(imported - set(sys.stdlib_module_names) - {project})
del statements, imported
autodoc_default_options = {'members': True, 'member-order': 'bysource'}
autodoc_typehints = 'signature'
napoleon_attr_annotations = False  # autodoc shows them; here `np.bool_` would be read as a link
