# SPDX-License-Identifier: Apache-2.0
"""A folder of images and masks to correct, written by `label` and read by `train`."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from lw_refinenet_ros.files import write_bytes, write_text
from lw_refinenet_ros.image.encodings import ColorImage, to_rgb
from lw_refinenet_ros.image.label_png import write_label_png
from lw_refinenet_ros.image.painting import paint_overlay
from lw_refinenet_ros.labels import LabelSet, find_classes

__all__ = ['LabelFolder', 'make_label_set']

JPEG_QUALITY = 95


class LabelFolder:
    """`images/`, `labels/`, `overlays/` and, unless the parent has one, `classes.yaml`.

    Attributes:
        path: the folder, created if missing.
        labels: the classes of all its masks.

    Raises:
        ValueError: the folder has masks of other classes.
    """

    def __init__(self, path: Path, labels: LabelSet) -> None:
        self.path, self.labels = path, labels
        classes = find_classes(path)
        if classes is not None and LabelSet.from_yaml(classes) != labels:
            raise ValueError(f'{classes} lists other classes than {labels.name!r}: choose another --output')
        for name in ('images', 'labels', 'overlays'):
            (path / name).mkdir(parents=True, exist_ok=True)
        if classes is None:
            text = yaml.safe_dump(labels.to_dict(), sort_keys=False, default_flow_style=None)
            write_text(path / 'classes.yaml', text)

    def mask(self, name: str) -> Path:
        """Return the path of an image's mask; the name has no suffix."""
        return self.path / 'labels' / f'{name}.png'

    def is_labelled(self, name: str) -> bool:
        """Return whether an image has a mask or a labelme file, which somebody may have corrected."""
        return self.mask(name).exists() or (self.path / 'images' / f'{name}.json').exists()

    def write_image(self, name: str, image: ColorImage | Path, *, png: bool = False) -> Path:
        """Write an image: pixels as JPEG or PNG, a file unchanged; return its path."""
        if isinstance(image, Path):
            path, content = self.path / 'images' / f'{name}{image.suffix}', image.read_bytes()
        else:
            path = self.path / 'images' / f'{name}{".png" if png else ".jpg"}'
            content = _encoded(path.suffix, to_rgb(image))
        if not path.exists():
            write_bytes(path, content)
        elif path.read_bytes() != content:
            raise ValueError(f'{path} is a different image: rename it, or choose another folder')
        return path

    def write_mask(
        self, name: str, image: ColorImage, label: NDArray[np.uint8], *, predicted: str | None = None
    ) -> None:
        """Write the overlay of a mask, uint8 (H, W) class ids, then the mask; see `write_label_png`."""
        overlay = paint_overlay(image.array, label, self.labels, order=image.order)
        write_bytes(self.path / 'overlays' / f'{name}.jpg', _encoded('.jpg', overlay))
        write_label_png(self.mask(name), label, self.labels, predicted=predicted)


def _encoded(suffix: str, rgb: NDArray[np.uint8]) -> bytes:
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    return cv2.imencode(suffix, bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def make_label_set(name: str, names: tuple[str, ...]) -> LabelSet:
    """Return a label set of these classes with well-separated colours."""
    hues = [round(180 * (0.618034 * i % 1)) % 180 for i in range(len(names))]  # golden ratio
    hsv = np.array([[[hue, 220, 230 - 70 * (i % 2)] for i, hue in enumerate(hues)]], np.uint8)
    colors = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0].tolist() if names else []
    return LabelSet(name, names, tuple((r, g, b) for r, g, b in colors))
