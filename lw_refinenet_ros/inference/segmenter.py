# SPDX-License-Identifier: Apache-2.0
"""Segment images without ROS: the same code that the node runs."""

from __future__ import annotations

import ctypes
import operator
import os
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from lw_refinenet_ros.class_groups import ClassGroups, read_groups
from lw_refinenet_ros.image.as_image import as_image
from lw_refinenet_ros.image.encodings import ORDERS, Order
from lw_refinenet_ros.image.painting import blend_table, paint_label, paint_mask, paint_overlay
from lw_refinenet_ros.inference.choice import make_engine
from lw_refinenet_ros.inference.engine import CLASSES, Batch, Engine, EngineError, Job, Pixels
from lw_refinenet_ros.labels import OPACITY, LabelSet
from lw_refinenet_ros.limits import MAX_PIXELS, MAX_SIDE, fault_of_network_size
from lw_refinenet_ros.model.network import Network, size_seen
from lw_refinenet_ros.model.weights import Card, load_model
from lw_refinenet_ros.one_line import unknown
from lw_refinenet_ros.resources import DEFAULT_WEIGHTS

__all__ = ['OWN_SIZE', 'Segmentation', 'Segmenter']

Size = tuple[int, int]  # (height, width)
OWN_SIZE: Size = (0, 0)  # the image's, enlarged to the weights' least size


@dataclass(frozen=True)
class Segmentation:
    """What one image shows.

    Attributes:
        image: uint8 (H, W, 3), the one that was given where it was of that form.
        order: of the image's channels.
        label: uint8 (H, W) class ids; 255 is unlabelled.
        confidence: uint8 (H, W), 255 is certain; None if not asked for.
        labels: names and colours of the classes.
        painting: paints (label, table) into an array where the engine has the image; returns False if the
            engine no longer holds the image. None if it never does.
    """

    image: Pixels
    order: Order
    label: Pixels
    confidence: Pixels | None
    labels: LabelSet
    painting: Callable[[Pixels, Pixels, Pixels], bool] | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy in another process has: the arrays, without the engine."""
        return {**self.__dict__, 'painting': None}

    def color(self, out: Pixels | None = None) -> Pixels:
        """Paint the classes in their colours: uint8 (H, W, 3) RGB, into `out` if given."""
        painted = self._paint(out)
        return paint_label(self.label, self.labels, out) if painted is None else painted

    def mask(self, classes: Collection[str], out: Pixels | None = None) -> Pixels:
        """Paint the pixels of the named classes: uint8 (H, W), 255 for them, else 0, into `out` if given."""
        return paint_mask(self.label, self.labels, _names(classes), out)

    def overlay(
        self, alpha: float = OPACITY, classes: Collection[str] | None = None, out: Pixels | None = None
    ) -> Pixels:
        """Blend the colours over `image`, as it is now: uint8 (H, W, 3) RGB, into `out` if given.

        Args:
            alpha: 0 shows the image, 1 the colours.
            classes: names of the classes to paint; None paints all.
            out: C-contiguous memory to write to.
        """
        names = None if classes is None else _names(classes)
        painted = self._paint(out, alpha, names)
        if painted is not None:
            return painted
        return paint_overlay(self.image, self.label, self.labels, alpha, names, self.order, out)

    def _paint(self, out: Pixels | None, *blend: Any) -> Pixels | None:
        """Paint by the `blend_table` of these arguments where the engine has the image, else return None."""
        if self.painting is None:
            return None
        out = np.empty((*self.label.shape, 3), np.uint8) if out is None else out
        return out if self.painting(self.label, blend_table(self.labels, *blend), out) else None


class Segmenter:
    """A network on an engine. Threads may share it: one waits for the other.

    Attributes:
        card: of the weights file.
        labels: names and colours of the classes, or of their groups.
        groups: of the classes, which take their place; None without.
        engine: what runs the network.
        network_size: (height, width) at which the network sees images, unless a call names another.
    """

    def __init__(
        self,
        engine: Engine,
        card: Card,
        groups: ClassGroups | None = None,
        network_size: Size = OWN_SIZE,
    ) -> None:
        self.engine, self.card, self.groups, self.network_size = engine, card, groups, network_size
        self.labels = card.labels if groups is None else groups.labels
        self._ids = CLASSES if groups is None else groups.ids(card.labels)
        self._lock = threading.Lock()  # of the engine

    def __repr__(self) -> str:
        return f'<Segmenter {self.card.architecture}, {self.labels.name}, {self.engine.description}>'

    @classmethod
    def load(
        cls,
        weights: str | os.PathLike[str] = DEFAULT_WEIGHTS,
        *,
        device: str = 'auto',
        engine: str = 'auto',
        precision: str = 'auto',
        threads: int = 0,
        class_groups: str | os.PathLike[str] | None = None,
        network_size: Size = OWN_SIZE,
    ) -> Segmenter:
        """Load weights and choose an engine.

        Args:
            weights: the name of a shipped file, or a path.
            device: 'auto', 'cuda' or 'cpu'.
            engine: 'auto', 'torch' or 'openvino'.
            precision: 'auto', 'fp32', 'bf16', 'fp16' or 'int8' (weights with its ranges).
            threads: of the CPU; 0 is all cores, or as many as its quota allows.
            class_groups: a YAML file of groups that take the place of the classes, see `ClassGroups`.
            network_size: (height, width) that the network sees, unless a call names another; see `job`.

        Raises:
            WeightsError: the weights cannot be used.
            EngineError: this machine cannot do what was asked for.
            ValueError: the groups or the network's size cannot be used.
        """
        if fault := fault_of_network_size(*_whole(network_size)):
            raise ValueError(fault)
        groups = read_groups(class_groups)
        network, card = load_model(weights)
        if groups is not None:
            groups.ids(card.labels)  # before an engine is made for nothing
        options = {'device': device, 'engine': engine, 'precision': precision}
        made = cls.build(network, card, **options, threads=threads)
        return cls(made.engine, card, groups, network_size)

    @classmethod
    def build(
        cls,
        network: Network,
        card: Card,
        *,
        device: str = 'auto',
        engine: str = 'auto',
        precision: str = 'auto',
        threads: int = 0,
    ) -> Segmenter:
        """Choose an engine for a network and its card from `load_model`; the options are those of `load`.

        Raises:
            EngineError: this machine cannot do what was asked for.
        """
        try:
            threads = operator.index(threads)
        except TypeError as error:
            raise EngineError(f'threads={threads!r} must be a whole number; 0 is all cores') from error
        made = make_engine(network, card, device=device, engine=engine, precision=precision, threads=threads)
        return cls(made, card)

    def grouped(self, groups: ClassGroups | None) -> Segmenter:
        """Return a segmenter on the same engine whose results have groups in place of the classes.

        Raises:
            ValueError: a member of a group is none of the classes.
        """
        if groups == self.groups:
            return self
        made = type(self)(self.engine, self.card, groups, self.network_size)
        made._lock = self._lock
        return made

    def job(
        self,
        image_size: Size,
        order: Order = 'rgb',
        *,
        network_size: Size | None = None,
        confidence: bool = False,
        batch: int = 1,
    ) -> Job:
        """Return what has to be done for images of one size; it travels with them to `run`.

        Args:
            image_size: (height, width) of the images, in pixels.
            order: of their channels, 'rgb' or 'bgr'.
            network_size: (height, width) that the network sees. (0, 0) is the image's own size, enlarged to
                the weights' `least_size` if it is smaller; one 0 follows from the other by the image's shape.
                None is the segmenter's.
            confidence: whether the confidence is computed too.
            batch: images that run together.

        Raises:
            ValueError: the network's size is not two whole numbers, or more than `MAX_SIDE` pixels a side, or
                `MAX_PIXELS` in all.
        """
        height, width = image_size
        wanted = self.network_size if network_size is None else _whole(network_size)
        size = size_seen(image_size, wanted, self.card.least_size)
        if not all(0 < side <= MAX_SIDE for side in size) or size[0] * size[1] > MAX_PIXELS:
            raise ValueError(
                f'the network would see the {width}x{height} image at {size[1]}x{size[0]}: choose a '
                f'network_height and network_width of at most {MAX_SIDE} a side and {MAX_PIXELS} pixels'
            )
        return Job(image_size, size, order, confidence, batch)

    def prepare(self, job: Job) -> None:
        """Compile and warm up for a job, so that its first run takes no longer than the next."""
        with self._lock:
            self.engine.prepare(job)

    def close(self) -> None:
        """Free the engine's memory; the segmenter is not used again."""
        with self._lock:
            self.engine.close()

    def run(
        self, job: Job, images: Sequence[Pixels], outs: Sequence[Pixels] | None = None
    ) -> list[Segmentation]:
        """Do a job.

        Args:
            job: from `job`, for these images.
            images: `job.batch` of uint8 (H, W, 3), any strides; read in place where pixels are adjacent.
            outs: uint8 (H, W) for each image, C-contiguous: its label is written there.

        Raises:
            ValueError: an image or an `out` has another type or shape than the job, or their number differs.
        """
        size = job.image_size
        if len(images) != job.batch or _size_of(images) != size:
            raise ValueError(
                f'the job is for {job.batch} images of {size[1]}x{size[0]}, not for these {len(images)}'
            )
        labels = [np.empty(size, np.uint8) for _ in images] if outs is None else list(outs)
        if len(labels) != len(images):
            raise ValueError(f'{len(labels)} outs for {len(images)} images; one each is needed')
        for label in labels:
            if label.shape != size or label.dtype != np.uint8 or not label.flags.carray:
                raise ValueError(
                    f'out is {label.dtype} {label.shape}; contiguous, writeable uint8 {size} is needed'
                )
        confidences = [np.empty(size, np.uint8) for _ in images] if job.confidence else None
        batch = Batch([_packed(image) for image in images], labels, confidences, self._ids)
        with self._lock:
            painting = self.engine.run(job, batch)
        return [
            Segmentation(
                *(image, job.order, label, confidences[index] if confidences else None, self.labels),
                partial(painting, index) if painting is not None else None,
            )
            for index, (image, label) in enumerate(zip(images, labels))
        ]

    def segment(
        self,
        image: Any,
        *,
        order: Order = 'rgb',
        network_size: Size | None = None,
        confidence: bool = False,
        out: Pixels | None = None,
    ) -> Segmentation:
        """Segment one image.

        Args:
            image: uint8 (H, W, 3), any strides; read in place where its pixels are adjacent. Grey, RGBA and
                Pillow images are taken too, see `as_image`.
            order: of its channels, 'rgb' or 'bgr'.
            network_size: see `job`.
            confidence: whether to return the confidence too.
            out: uint8 (H, W), C-contiguous: the label is written there instead of to new memory.

        Raises:
            ValueError: the image or `out` has another type or shape, or `order` is unknown.
        """
        outs = None if out is None else [out]
        return self.segment_batch(
            [image], order=order, network_size=network_size, confidence=confidence, outs=outs
        )[0]

    def segment_batch(
        self,
        images: Sequence[Any],
        *,
        order: Order = 'rgb',
        network_size: Size | None = None,
        confidence: bool = False,
        outs: Sequence[Pixels] | None = None,
    ) -> list[Segmentation]:
        """Segment images of one size together.

        Args:
            images: uint8 (H, W, 3) each, any strides, or what `segment` takes besides; (N, H, W, 3) is N of
                them.
            order: of their channels, 'rgb' or 'bgr'.
            network_size: see `job`.
            confidence: whether to return the confidences too.
            outs: uint8 (H, W) for each image, C-contiguous: its label is written there.

        Raises:
            ValueError: an image or an `out` has another type or shape, there are none, or `order` is unknown.
        """
        if order not in ORDERS:
            raise ValueError(unknown('order', order, ORDERS))
        arrays = [as_image(image, order) for image in images]
        size = _size_of(arrays)
        job = self.job(size, order, network_size=network_size, confidence=confidence, batch=len(arrays))
        return self.run(job, arrays, outs)


def _names(classes: Collection[str]) -> tuple[str, ...]:
    if isinstance(classes, str):
        raise ValueError(f'classes={classes!r} must be several names: write [{classes!r}]')
    return tuple(classes)


def _whole(network_size: Size) -> Size:
    try:
        height, width = map(operator.index, network_size)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f'network_size={network_size!r} must be two whole numbers: height and width in pixels'
        ) from error
    return height, width


def _size_of(images: Sequence[Pixels]) -> tuple[int, int]:
    """Return the (height, width) that all images have."""
    if not images:
        raise ValueError('there are no images; at least one is needed')
    for image in images:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f'the image is {image.dtype} {image.shape}; uint8 (H, W, 3) is needed')
        height, width = image.shape[:2]
        if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
            raise ValueError(f'the image is {width}x{height}; 1 to {MAX_SIDE} pixels a side are allowed')
        if image.shape != images[0].shape:
            raise ValueError(
                f'a batch has images of {width}x{height} and {images[0].shape[1]}x{images[0].shape[0]}; '
                'segment those of one size together'
            )
    return images[0].shape[0], images[0].shape[1]


def _packed(image: Pixels) -> Pixels:
    """Return an image with adjacent pixels; a view unless they lie apart.

    Engines share only memory that may be written, though they never write to their input,
    and a message's bytes are read-only: its address is taken without asking. The caller's
    reference keeps the memory alive.
    """
    image = np.ascontiguousarray(image)
    if image.flags.writeable:
        return image
    memory = (ctypes.c_uint8 * image.nbytes).from_address(image.ctypes.data)
    return np.ctypeslib.as_array(memory).reshape(image.shape)
