# SPDX-License-Identifier: Apache-2.0
"""Bags, videos, folders and cameras as one stream of stamped frames, and the bag writer."""

from typing import TYPE_CHECKING

from lw_refinenet_ros.lazy import lazy_exports

if TYPE_CHECKING:
    from lw_refinenet_ros.sources.opening import open_source
    from lw_refinenet_ros.sources.source import SourceError

__all__ = ['SourceError', 'open_source']

__getattr__ = lazy_exports(__name__, {'opening': ['open_source'], 'source': ['SourceError']})
