# SPDX-License-Identifier: Apache-2.0
"""The options of a training run: defaults, ranges and descriptions."""

from __future__ import annotations

import math
from dataclasses import Field, dataclass, field, fields
from typing import Any

from lw_refinenet_ros.limits import STRIDE

__all__ = ['TrainingConfig']


def _option(default: float | str, words: str, least: float = 0, most: float = math.inf) -> Any:
    """Declare an option whose value must lie between `least` and `most`."""
    return field(default=default, metadata={'help': words, 'range': (least, most)})


@dataclass(frozen=True)
class TrainingConfig:
    """How to train; stored in the weights file. The metadata of each field describe it.

    Raises:
        ValueError: a value is out of range, or batch normalisation would get single values.
    """

    architecture: str = _option(
        'lw_refinenet_efficientnet_lite0', 'DECODER_ENCODER; an unknown name lists all'
    )
    width: int = _option(96, 'channels of the decoder', 1, 4096)
    epochs: int = _option(60, 'passes over the training images', 1)
    batch_size: int = _option(8, 'crops per step; fewer need less memory', 1)
    crop_height: int = _option(
        352, 'height of a crop in pixels; smaller images are padded with unlabelled pixels', 1
    )
    crop_width: int = _option(352, 'width of a crop in pixels', 1)
    least_height: int = _option(
        0, 'images are enlarged until they have this height or the width below; 0: never', 0, 4096
    )
    least_width: int = _option(0, 'see --least-height', 0, 4096)
    min_scale: float = _option(0.5, 'smallest factor of random resizing, log-uniform', 0.01, 100)
    max_scale: float = _option(2.0, 'largest factor of random resizing', 0.01, 100)
    class_uniform: float = _option(
        0.0,
        'fraction of crops that contain a pixel of a class sampled uniformly from those in the image',
        0,
        1,
    )
    jitter: float = _option(0.3, 'strength of random brightness, contrast, saturation and hue; 0: none', 0, 1)
    illumination: float = _option(
        0.0,
        'strength of random exposure, colour temperature, gamma, blur and noise, at 1 down to dusk; 0: none',
        0,
        1,
    )
    class_mix: float = _option(
        0.0, 'fraction of crops onto which the rare classes of another crop are pasted', 0, 1
    )
    encoder_rate: float = _option(3e-4, "AdamW's peak learning rate for the encoder")
    decoder_rate: float = _option(1e-3, "AdamW's peak learning rate for the decoder")
    weight_decay: float = _option(1e-2, 'weight decay of convolutions; norms and biases have none')
    warmup_epochs: float = _option(
        1.0, 'linear rise of the learning rates before their polynomial (0.9) decay to zero'
    )
    class_weight_offset: float = _option(
        1.1, "offset above 1 in ENet's class weights 1 / ln(offset + frequency); 0: equal weights"
    )
    jaccard: float = _option(0.0, 'weight of the added soft Jaccard loss (1 - IoU, mean over classes)')
    hard_fraction: float = _option(
        1.0, 'fraction of the pixels of a batch that count, those of highest loss; 1: all', 0.001, 1
    )
    pseudo_confidence: float = _option(
        0.9, 'pixels of --unlabelled frames that --teacher labels with less confidence do not count', 0, 1
    )
    pseudo_weight: float = _option(1.0, 'weight of the loss on --unlabelled frames')
    ema_decay: float = _option(0.997, 'decay of the averaged weights, which are validated and saved', 0, 1)
    validate_every: int = _option(5, 'epochs between validations', 1)
    seed: int = _option(0, 'random seed', 0, 2**63 - 1)
    workers: int = _option(1, 'threads that prepare crops', 1)

    def __post_init__(self) -> None:
        """Refuse values that training cannot use."""
        from lw_refinenet_ros.model.network import ARCHITECTURES  # PyTorch, which --help does not need

        for option in fields(self):
            _check_range(option, getattr(self, option.name))
        if self.architecture not in ARCHITECTURES:
            raise ValueError(f'architecture {self.architecture!r} must be one of {", ".join(ARCHITECTURES)}')
        if self.min_scale > self.max_scale:
            raise ValueError(f'min_scale={self.min_scale} must be at most max_scale={self.max_scale}')
        if bool(self.least_height) != bool(self.least_width):
            raise ValueError(
                f'least_height={self.least_height} and least_width={self.least_width}: give both, or neither'
            )
        if 0 < self.class_weight_offset <= 1:
            raise ValueError(f'class_weight_offset={self.class_weight_offset} must be 0 or above 1')
        if self.class_mix and self.batch_size == 1:
            raise ValueError(
                f'class_mix={self.class_mix} pastes from another crop of the batch: '
                'batch_size must be at least 2'
            )
        rows, columns = (-(-size // STRIDE) for size in (self.crop_height, self.crop_width))
        if self.batch_size * rows * columns < 2:
            raise ValueError(
                f'a batch of one crop of {self.crop_width}x{self.crop_height} is too small for batch '
                f'normalization: make the crop larger than {STRIDE} pixels, or batch_size at least 2'
            )


def _check_range(option: Field[Any], value: float | str) -> None:
    least, most = option.metadata['range']
    if isinstance(option.default, str):
        return
    if not (math.isfinite(value) and least <= value <= most):  # type: ignore[arg-type]
        limits = f'from {least:g} to {most:g}' if most < math.inf else f'at least {least:g}'
        raise ValueError(f'{option.name}={value} must be {limits}')
