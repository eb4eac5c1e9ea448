# SPDX-License-Identifier: Apache-2.0
"""Pixels in, Segmentation out."""

from typing import TYPE_CHECKING

from lw_refinenet_ros.lazy import lazy_exports

if TYPE_CHECKING:
    from lw_refinenet_ros.inference.engine import EngineError
    from lw_refinenet_ros.inference.segmenter import Segmentation, Segmenter

__all__ = ['EngineError', 'Segmentation', 'Segmenter']

__getattr__ = lazy_exports(
    __name__,
    {
        'EngineError': 'lw_refinenet_ros.inference.engine',
        'Segmentation': 'lw_refinenet_ros.inference.segmenter',
        'Segmenter': 'lw_refinenet_ros.inference.segmenter',
    },
)
