# SPDX-License-Identifier: Apache-2.0
"""Names that a package exports and imports only when they are first used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

__all__ = ['lazy_exports']


def lazy_exports(package: str, modules: Mapping[str, str]) -> Callable[[str], object]:
    """Return a package's `__getattr__`: importing the package alone loads no torch and no OpenCV.

    Args:
        package: its `__name__`.
        modules: the full name of the module that each exported name is taken from.

    """

    def get(name: str) -> object:
        if name in modules:
            return getattr(importlib.import_module(modules[name]), name)
        msg = f'module {package!r} has no attribute {name!r}'
        raise AttributeError(msg)

    return get
