# SPDX-License-Identifier: Apache-2.0
"""Exported names that are imported on first use."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

__all__ = ['lazy_exports']


def lazy_exports(package: str, modules: Mapping[str, str]) -> Callable[[str], object]:
    """Return a package's `__getattr__`: importing the package alone loads no torch and no OpenCV.

    Args:
        package: the package's `__name__`.
        modules: the module, by full name, of each exported name.
    """

    def get(name: str) -> object:
        if name in modules:
            return getattr(importlib.import_module(modules[name]), name)
        raise AttributeError(f'module {package!r} has no attribute {name!r}')

    return get
