# SPDX-License-Identifier: Apache-2.0
"""Networks, their weights files, and exact rewrites for inference; torch only."""

from typing import TYPE_CHECKING

from lw_refinenet_ros.lazy import lazy_exports

if TYPE_CHECKING:
    from lw_refinenet_ros.model.network import ARCHITECTURES, build_model
    from lw_refinenet_ros.model.weights import Card, WeightsError, load_model, read_card, save_model

__all__ = ['ARCHITECTURES', 'Card', 'WeightsError', 'build_model', 'load_model', 'read_card', 'save_model']

__getattr__ = lazy_exports(
    __name__,
    {
        'network': ['ARCHITECTURES', 'build_model'],
        'weights': ['Card', 'WeightsError', 'load_model', 'read_card', 'save_model'],
    },
)
