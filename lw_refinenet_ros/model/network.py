# SPDX-License-Identifier: Apache-2.0
"""RefineNet and Light-Weight RefineNet networks by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional

from lw_refinenet_ros.model.decoder import Decoder
from lw_refinenet_ros.model.efficientnet_lite import EfficientNetLite0, EfficientNetLite1, EfficientNetLite2
from lw_refinenet_ros.model.encoder import Encoder
from lw_refinenet_ros.model.mobilenet_v2 import MobileNetV2
from lw_refinenet_ros.model.resnet import ResNet50, ResNet101, ResNet152

__all__ = ['ARCHITECTURES', 'Network', 'build_model', 'compare_shapes', 'drop_tensors', 'enlarged']

ENCODERS: dict[str, type[Encoder]] = {
    'resnet50': ResNet50,
    'resnet101': ResNet101,
    'resnet152': ResNet152,
    'mobilenet_v2': MobileNetV2,
    'efficientnet_lite0': EfficientNetLite0,
    'efficientnet_lite1': EfficientNetLite1,
    'efficientnet_lite2': EfficientNetLite2,
}
ARCHITECTURES = tuple(f'{d}_{encoder}' for d in ('lw_refinenet', 'refinenet') for encoder in ENCODERS)


class Network(nn.Module):
    """An encoder and a decoder: normalised float image (N, 3, H, W) in, logits out.

    The logits (N, num_classes, ceil(H / stride), ceil(W / stride)) have the stride of the finest
    encoder map that is used: 4, if fewer levels were not asked for. For an image smaller than
    `least_size` H and W are those it is enlarged to.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder, least_size: tuple[int, int] = (0, 0)) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.least_size = least_size

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of a normalised image."""
        if any(self.least_size):  # which a network that is traced has not
            own = (int(image.shape[-2]), int(image.shape[-1]))
            size = enlarged(own, self.least_size)
            if size != own:
                image = functional.interpolate(image, size=size, mode='bilinear', align_corners=False)
        return self.at_network_size(image)

    def at_network_size(self, image: Tensor) -> Tensor:
        """Return the logits of a normalised image, whatever its size."""
        logits: Tensor = self.decoder(self.encoder(image))
        return logits


def compare_shapes(shapes: Mapping[str, object], expected: Mapping[str, object]) -> str:
    """Return in words how the shapes of tensors, by name, differ from those that a network needs, or ''."""
    faults = {
        'missing': [name for name in expected if name not in shapes],
        'surplus': [name for name in shapes if name not in expected],
        'misshapen': [
            f'{name} {shapes[name]} instead of {shape}'
            for name, shape in expected.items()
            if shapes.get(name, shape) != shape
        ],
    }
    return '; '.join(f'{fault}: {", ".join(names)}' for fault, names in faults.items() if names)


def drop_tensors(network: nn.Module) -> None:
    """Free a network's parameters and buffers, though something may still refer to it."""
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.data = tensor.data.new_empty(0)


def enlarged(size: tuple[int, int], least: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) that a network sees of an image: the largest of its shape within `least`.

    An image that fills `least` in either direction stays as it is.
    """
    (height, width), (least_height, least_width) = size, least
    if height >= least_height or width >= least_width:
        return size
    if least_height * width <= least_width * height:
        return least_height, round(width * least_height / height)
    return round(height * least_width / width), least_width


def size_seen(
    image_size: tuple[int, int], wanted: tuple[int, int], least: tuple[int, int]
) -> tuple[int, int]:
    """Return the (height, width) that a network sees of an image.

    Args:
        image_size: (height, width) of the image, in pixels.
        wanted: the (height, width) to see it at; one 0 follows from the other by the image's shape. (0, 0) is
            its own size, enlarged if it is smaller than `least`.
        least: see `enlarged`.
    """
    (height, width), (wanted_height, wanted_width) = image_size, wanted
    if not (wanted_height or wanted_width):
        return enlarged(image_size, least)
    return (
        wanted_height or max(round(height * wanted_width / width), 1),
        wanted_width or max(round(width * wanted_height / height), 1),
    )


def build_model(
    architecture: str,
    num_classes: int,
    *,
    width: int = 256,
    kernel: int | None = None,
    rcus: Sequence[int] | None = None,
    crp_stages: int = 4,
    levels: int = 4,
    least_size: Sequence[int] = (0, 0),
) -> Network:
    """Build an untrained network; the dials' defaults are the published ones.

    Args:
        architecture: one of `ARCHITECTURES`.
        num_classes: channels of the logits.
        width: channels of the decoder.
        kernel: of the decoder's convolutions, 1 or 3.
        rcus: residual convolution units per stride, (before the sum, after the pooling).
        crp_stages: stages of each chained residual pooling; 0 is none.
        levels: strides of the encoder that are used, counted from the coarsest.
        least_size: (height, width); a smaller image is enlarged, bilinearly, until it fills one of them:
            thin objects need more pixels than a small camera has.

    Raises:
        ValueError: the architecture is unknown, or a number is out of its range.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f'unknown architecture {architecture!r}: choose one of {", ".join(ARCHITECTURES)}')
    original = architecture.startswith('refinenet_')
    name = architecture.split('refinenet_')[1]
    kernel = (3 if original else 1) if kernel is None else kernel
    before, after = rcus if rcus is not None else (2, 3) if original else (0, 0)
    for what, value, least, most in (
        ('num_classes', num_classes, 1, 255),
        ('width', width, 1, 4096),
        ('kernel', kernel, 1, 3),
        ('rcus[0]', before, 0, 16),
        ('rcus[1]', after, 0, 16),
        ('crp_stages', crp_stages, 0, 16),
        ('levels', levels, 1, 4),
        *((f'least_size[{i}]', n, 0, 4096) for i, n in enumerate(least_size)),
    ):
        if not least <= value <= most:
            raise ValueError(f'{what}={value} must be from {least} to {most}')
    if kernel == 2:
        raise ValueError('kernel=2 must be odd: 1 or 3')
    encoder = ENCODERS[name]()
    decoder = Decoder(
        encoder.features,
        num_classes,
        width,
        kernel=kernel,
        rcus=(before, after),
        crp_stages=crp_stages,
        levels=levels,
        wide=original or name.startswith('resnet'),
        clipped=architecture == 'lw_refinenet_mobilenet_v2',
    )
    return Network(encoder, decoder, (least_size[0], least_size[1]))
