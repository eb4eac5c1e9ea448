# SPDX-License-Identifier: Apache-2.0
"""Light-Weight RefineNet as a ROS 2 node, and without ROS on files and recorded bags."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lw_refinenet_ros.inference.segmenter import Segmentation, Segmenter

__all__ = ['Segmentation', 'Segmenter', '__version__']

__version__ = '0.1.0'


def __getattr__(name: str) -> object:
    """Import the segmenter when it is first asked for: the package alone takes no network library."""
    if name in {'Segmentation', 'Segmenter'}:
        from lw_refinenet_ros.inference import segmenter

        return getattr(segmenter, name)
    msg = f'module {__name__!r} has no attribute {name!r}'
    raise AttributeError(msg)
