# SPDX-License-Identifier: Apache-2.0
"""Every dial of a training run and its default."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ['TrainingConfig']


@dataclass(frozen=True)
class TrainingConfig:
    """How to train; printed at the start and stored in the weights file.

    Attributes:
        architecture: the network, as `build_model` knows it.
        width: channels of its decoder.
        epochs: passes over the training images.
        batch_size: crops per step.
        crop_height, crop_width: pixels of a crop; smaller images are padded with unlabelled pixels.
        least_height, least_width: smaller images are enlarged until they fill one of these; 0 is as they are.
        min_scale, max_scale: range of the random resizing on top of that, log-uniform.
        class_uniform: share of the crops that are taken around a pixel of a class drawn from those in the
            image, each as likely; the others are taken anywhere.
        jitter: strength of the random brightness, contrast, saturation and hue; 0 is none.
        encoder_rate, decoder_rate: peak learning rates of AdamW.
        weight_decay: of convolution weights; norms and biases have none.
        warmup_epochs: linear rise of the rates before the polynomial (0.9) fall to zero.
        class_weight_offset: ENet's class weights 1 / ln(offset + frequency); 0 weighs all classes alike.
        jaccard: weight of the soft Jaccard loss (1 - IoU, averaged over classes) beside the cross-entropy.
        hard_fraction: share of a batch's pixels, those of highest loss, that count; 1 is all.
        ema_decay: of the averaged weights that are validated and kept.
        validate_every: epochs between validations.
        seed: of everything random.
        workers: threads that prepare crops.

    """

    architecture: str = 'lw_refinenet_efficientnet_lite0'
    width: int = 96
    epochs: int = 60
    batch_size: int = 8
    crop_height: int = 352
    crop_width: int = 352
    least_height: int = 0
    least_width: int = 0
    min_scale: float = 0.5
    max_scale: float = 2.0
    class_uniform: float = 0.0
    jitter: float = 0.3
    encoder_rate: float = 3e-4
    decoder_rate: float = 1e-3
    weight_decay: float = 1e-2
    warmup_epochs: float = 1.0
    class_weight_offset: float = 1.1
    jaccard: float = 0.0
    hard_fraction: float = 1.0
    ema_decay: float = 0.997
    validate_every: int = 5
    seed: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        """Refuse values that cannot train anything."""
        for name in (
            'width',
            'epochs',
            'batch_size',
            'crop_height',
            'crop_width',
            'validate_every',
            'workers',
        ):
            if getattr(self, name) < 1:
                msg = f'{name}={getattr(self, name)} must be at least 1'
                raise ValueError(msg)
        if not 0 < self.min_scale <= self.max_scale:
            msg = f'min_scale={self.min_scale} and max_scale={self.max_scale} must be positive and in order'
            raise ValueError(msg)
        if not 0 < self.hard_fraction <= 1:
            msg = f'hard_fraction={self.hard_fraction} must be above 0 and at most 1'
            raise ValueError(msg)
