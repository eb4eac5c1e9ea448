# SPDX-License-Identifier: Apache-2.0
"""What `make docs` needs of the package, tried without Sphinx."""

import re
import subprocess
import sys

from test.support import ROOT

# As Sphinx's stand-ins do, these take part in imports, calls and decorators, and in no arithmetic.
IMPORT = """
import importlib, sys
from importlib.machinery import ModuleSpec
from types import ModuleType

REAL = {'lw_refinenet_ros', 'yaml', '_yaml', 'jinja2', 'markupsafe'}  # Sphinx brings all but the first

class StandIn:
    __module__, __qualname__ = 'stand', 'StandIn'
    def __init__(self, *arguments, **options): pass
    def __call__(self, *arguments, **options):
        return arguments[0] if arguments and callable(arguments[0]) else StandIn()
    def __getattr__(self, name): return StandIn()
    def __getitem__(self, key): return StandIn()
    def __iter__(self): return iter(())
    def __contains__(self, item): return False
    def __mro_entries__(self, bases): return (StandIn,)
    def __or__(self, other): return self
    def __ror__(self, other): return self

class Module(ModuleType):
    __path__ = []
    def __getattr__(self, name): return StandIn()

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split('.')[0] not in sys.stdlib_module_names | REAL:
            return ModuleSpec(name, Finder)
    create_module = staticmethod(lambda spec: Module(spec.name))
    exec_module = staticmethod(lambda module: None)

sys.meta_path.insert(0, Finder)
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_the_documented_modules_can_be_imported_where_nothing_else_is_installed():
    names = re.findall(r'automodule:: ([\w.]+)', (ROOT / 'docs' / 'api.rst').read_text())
    assert 'lw_refinenet_ros.training.train' in names
    done = subprocess.run(
        [sys.executable, '-c', IMPORT, *names], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
