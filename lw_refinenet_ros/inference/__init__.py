# SPDX-License-Identifier: Apache-2.0
"""Pixels in, Segmentation out."""

import sys
from typing import TYPE_CHECKING

from lw_refinenet_ros.lazy import lazy_exports

if TYPE_CHECKING:
    from lw_refinenet_ros.inference.engine import EngineError
    from lw_refinenet_ros.inference.segmenter import Segmentation, Segmenter

__all__ = ['EngineError', 'Segmentation', 'Segmenter']

__getattr__ = lazy_exports(__name__, {'engine': ['EngineError'], 'segmenter': ['Segmentation', 'Segmenter']})

# With this package, OpenVINO and NNCF report every import to a server, from a process forked of ours: a node
# must not fork beside its middleware. Without it they report nothing.
sys.modules.setdefault('openvino_telemetry', None)  # type: ignore[arg-type]
