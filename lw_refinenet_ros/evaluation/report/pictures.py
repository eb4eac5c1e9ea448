# SPDX-License-Identifier: Apache-2.0
"""Pictures embedded in a page, and how they show labels."""

from __future__ import annotations

import base64
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.evaluation.frame_scores import WorstFrame
from lw_refinenet_ros.evaluation.side_by_side import ChangedFrame
from lw_refinenet_ros.image.painting import paint_label
from lw_refinenet_ros.labels import UNLABELLED, LabelSet

__all__ = ['Color', 'Picture', 'colors', 'pictures_of_change', 'pictures_of_worst']

WIDEST = 1280  # pixels; larger pictures only make the file heavy
JPEG_QUALITY = 88

Color = tuple[int, int, int]  # RGB, 0 to 255
Pixels = npt.NDArray[np.uint8]

NO_TRUTH, RIGHT, WRONG = (120, 128, 136), (236, 239, 242), (226, 74, 51)
# Changes, in colours that everyone can distinguish: Okabe and Ito's blue and vermilion
MENDED, BROKEN, WRONG_IN_BOTH, UNCHANGED = (0, 114, 178), (213, 94, 0), (60, 60, 60), (236, 236, 236)


class Picture(NamedTuple):
    """A JPEG as a data URL, its size in pixels, and an alternative text."""

    src: str
    width: int
    height: int
    alt: str

    @classmethod
    def of(cls, image: Pixels, alt: str) -> Picture:
        """Encode uint8 (H, W, 3) RGB, made smaller if it is wider than a screen."""
        height, width = image.shape[:2]
        if width > WIDEST:
            height, width = round(height * WIDEST / width), WIDEST
        bgr = np.ascontiguousarray(image[..., ::-1])
        bgr = np.asarray(cv2.resize(bgr, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        _, jpeg = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        return cls(f'data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}', width, height, alt)


def colors(labels: LabelSet) -> list[tuple[str, Color]]:
    """Return name and colour of each class, and of pixels without truth."""
    return [*zip(labels.names, labels.colors), ('no truth', (0, 0, 0))]


def pictures_of_worst(frame: WorstFrame, labels: LabelSet) -> dict[str, Picture]:
    """Return the pictures of one of the worst frames, by name."""
    pictures = {
        'Image': frame.image,
        'Truth': paint_label(frame.truth, labels),
        'Prediction': paint_label(frame.label, labels),
        'Difference': difference(frame),
    }
    if frame.confidence is not None:
        heat = cv2.applyColorMap(frame.confidence, cv2.COLORMAP_CIVIDIS)
        pictures['Confidence'] = np.asarray(heat, np.uint8)[..., ::-1]
    return {
        what: Picture.of(array, f'{what} of frame {frame.score.name}') for what, array in pictures.items()
    }


def pictures_of_change(frame: ChangedFrame, labels: LabelSet) -> dict[str, Picture]:
    """Return the pictures of a frame that two networks see differently, by name."""
    pictures = {
        'Image': frame.image,
        'Truth': paint_label(frame.truth, labels),
        'Before': paint_label(frame.before, labels),
        'After': paint_label(frame.after, labels),
        'What changed': changes(frame),
    }
    return {what: Picture.of(array, f'{what}, frame {frame.name}') for what, array in pictures.items()}


def difference(frame: WorstFrame) -> Pixels:
    """Show where the prediction is wrong over a faint image, uint8 (H, W, 3)."""
    shown = _faint(frame.image, RIGHT)
    shown[frame.label != frame.truth] = WRONG
    shown[frame.truth == UNLABELLED] = NO_TRUTH
    return shown


def changes(frame: ChangedFrame) -> Pixels:
    """Show where the labels went right or wrong over a faint image, uint8 (H, W, 3)."""
    shown = _faint(frame.image, UNCHANGED)
    was, now = frame.before == frame.truth, frame.after == frame.truth
    shown[~was & ~now] = WRONG_IN_BOTH
    shown[~was & now] = MENDED
    shown[was & ~now] = BROKEN
    shown[frame.truth == UNLABELLED] = NO_TRUTH
    return shown


def _faint(image: Pixels, ground: Color) -> Pixels:
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    return (0.25 * gray + 0.75 * np.array(ground, np.float32)).astype(np.uint8)
