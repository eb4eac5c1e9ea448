# SPDX-License-Identifier: Apache-2.0
"""What every engine does: the contract between them and those who call them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from lw_refinenet_ros.image.frame import Pixels

if TYPE_CHECKING:
    from lw_refinenet_ros.image.encodings import Order

__all__ = [
    'CLASSES',
    'DEVICES',
    'ENGINES',
    'PRECISIONS',
    'Batch',
    'Engine',
    'EngineError',
    'Job',
    'Painting',
    'Pixels',
]

DEVICES = ('auto', 'cuda', 'cpu')
ENGINES = ('auto', 'torch', 'openvino')
PRECISIONS = ('auto', 'fp32', 'bf16', 'fp16', 'int8')

CLASSES: Pixels = np.arange(256, dtype=np.uint8)  # each class as itself


class EngineError(ValueError):
    """A request that does not run on this machine; the message names what would."""


@dataclass(frozen=True)
class Job:
    """The shape of a frame's work: engines compile once per job."""

    image_size: tuple[int, int]  # (height, width) of the images and of the labels
    network_size: tuple[int, int]  # (height, width) the network sees
    order: Order = 'rgb'  # of the image's channels
    confidence: bool = False  # whether the confidence is computed too
    batch: int = 1  # images that run together


class Batch(NamedTuple):
    """The images of a job, and where their results go."""

    images: Sequence[Pixels]  # uint8 (H, W, 3) each, C-contiguous and writable, though never written
    labels: Sequence[Pixels]  # uint8 (H, W) each, C-contiguous; the class ids are written into them
    confidences: Sequence[Pixels] | None = None  # the same, or None if the job asks for none
    ids: Pixels = CLASSES  # uint8 (256,), what is written for each class

    def one(self, index: int) -> Batch:
        """Return one of the images as a batch."""
        part = slice(index, index + 1)
        confidences = self.confidences[part] if self.confidences else None
        return Batch(self.images[part], self.labels[part], confidences, self.ids)


class Painting(Protocol):
    """Paints images of a run where the engine has them, until its next run."""

    def __call__(self, index: int, label: Pixels, table: Pixels, out: Pixels) -> bool:
        """Paint by table lookup, unless the image was overwritten.

        Args:
            index: of the image in the batch.
            label: uint8 (H, W), as it is now.
            table: from `blend_table`.
            out: uint8 (H, W, 3); the RGB result is written there.

        Returns:
            whether that was done.
        """


class Engine(Protocol):
    """Runs one network; not thread-safe: its segmenter lets one thread in at a time.

    Attributes:
        description: engine, device and precision, and why these.
    """

    name: str
    device: str
    precision: str
    description: str

    def prepare(self, job: Job) -> None:
        """Compile and warm up, so that the first frame takes no longer than the next."""

    def close(self) -> None:
        """Free the engine's memory; it is not used again."""

    def run(self, job: Job, batch: Batch) -> Painting | None:
        """Segment a batch of `job.batch` images; prepare the job now if that was not done.

        Returns:
            what paints overlays on a device that has the images anyway, or None.
        """
