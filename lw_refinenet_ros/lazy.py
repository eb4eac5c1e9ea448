# SPDX-License-Identifier: Apache-2.0
"""Exported names that are imported on first use."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping

__all__ = ['lazy_exports']


def lazy_exports(package: str, modules: Mapping[str, Collection[str]]) -> Callable[[str], object]:
    """Return the `__getattr__` of a package that exports these names, each from the module in it.

    Importing the package alone loads no torch and no OpenCV.
    """

    def get(name: str) -> object:
        for module, names in modules.items():
            if name in names:
                return getattr(importlib.import_module(f'{package}.{module}'), name)
        raise AttributeError(f'module {package!r} has no attribute {name!r}')

    return get
