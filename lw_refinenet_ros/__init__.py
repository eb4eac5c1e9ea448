# SPDX-License-Identifier: Apache-2.0
"""Light-Weight RefineNet as a ROS 2 node, and without ROS on files and recorded bags."""

from typing import TYPE_CHECKING

from lw_refinenet_ros.lazy import lazy_exports

if TYPE_CHECKING:
    from lw_refinenet_ros.inference.engine import EngineError
    from lw_refinenet_ros.inference.segmenter import Segmentation, Segmenter
    from lw_refinenet_ros.labels import LabelSet
    from lw_refinenet_ros.model.weights import WeightsError

__all__ = ['EngineError', 'LabelSet', 'Segmentation', 'Segmenter', 'WeightsError', '__version__']

__version__ = '0.1.0'

__getattr__ = lazy_exports(
    __name__,
    {
        'inference.engine': ['EngineError'],
        'inference.segmenter': ['Segmentation', 'Segmenter'],
        'labels': ['LabelSet'],
        'model.weights': ['WeightsError'],
    },
)
