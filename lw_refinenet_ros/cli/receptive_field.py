# SPDX-License-Identifier: Apache-2.0
"""Measure the empirical receptive field of each stage on images and draw it over the first of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lw_refinenet_ros.cli.options import Progress, add_weights_argument, file_ending_in, image_size
from lw_refinenet_ros.cli.outputs import PICTURE, Declared, Output
from lw_refinenet_ros.cli.table import print_table
from lw_refinenet_ros.files import write_atomically
from lw_refinenet_ros.resources import DEFAULT_WEIGHTS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

__all__ = ['add_arguments', 'outputs', 'run']

TITLES = {'encoder': 'after the encoder', 'sum': 'after the sum', 'pooling': 'after CRP'}
PANEL = 360  # width of a panel in pixels
TEXT = 34  # height of the caption below a panel in pixels
WHITE, GREY, YELLOW = (255, 255, 255), (190, 190, 190), (60, 220, 255)  # BGR


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('images', nargs='+', type=Path, metavar='IMAGE', help='images to average over')
    add_weights_argument(parser, DEFAULT_WEIGHTS)
    parser.add_argument('--size', type=image_size, metavar='WxH', help="(default: the first image's)")
    parser.add_argument(
        '--output',
        type=file_ending_in('.png'),
        metavar='FILE',
        default=Path('receptive_field.png'),
        help='(default: %(default)s)',
    )


def outputs(options: argparse.Namespace) -> Declared:
    return [Output('--output', options.output, PICTURE)], [*options.images, options.weights]


def run(options: argparse.Namespace) -> None:
    """Print the receptive fields and write the picture."""
    import cv2
    import torch

    from lw_refinenet_ros.model.receptive_field import influences, side_of_influence
    from lw_refinenet_ros.model.weights import load_model

    height, width = options.size or _read(options.images[0]).shape[:2]
    images = [_read(path, (width, height)) for path in options.images]
    network, card = load_model(options.weights)
    network.requires_grad_(requires_grad=False)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (card.mean, card.std))
    total: dict[tuple[str, int], torch.Tensor] = {}
    progress = Progress('images:', len(images))
    for index, image in enumerate(images):
        pixels = torch.from_numpy(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).permute(2, 0, 1)[None] / 255
        for place, field in influences(network, (pixels - mean) / std).items():
            total[place] = total.get(place, torch.zeros(height, width)) + field / len(images)
        progress.show(index + 1)
    print('side in pixels of the square that contains 90 % of the influence')
    table, rows = [['stride', *TITLES.values()]], []
    for stride in reversed(network.decoder.strides):
        sides = {stage: side_of_influence(total[stage, stride]) for stage in TITLES}
        table.append([str(stride), *map(str, sides.values())])
        rows.append(
            cv2.hconcat(
                [_panel(images[0], total[s, stride].numpy(), side, stride, s) for s, side in sides.items()]
            )
        )
    print_table(table, '>>>>')
    _write(options.output, cast('Pixels', cv2.cvtColor(cv2.vconcat(rows), cv2.COLOR_BGR2RGB)))
    print(options.output)


def _write(path: Path, picture: Pixels) -> None:
    """Write RGB as a PNG that names its software, so that a later run may replace it."""
    from PIL import Image, PngImagePlugin

    about = PngImagePlugin.PngInfo()
    about.add_text('Software', 'lw_refinenet_ros')
    write_atomically(path, lambda file: Image.fromarray(picture).save(file, 'png', pnginfo=about))


def _read(path: Path, size: tuple[int, int] | None = None) -> Pixels:
    """Read an image, uint8 (H, W, 3) BGR, and resize it to (width, height)."""
    import cv2

    from lw_refinenet_ros.sources.images import read_image

    image = read_image(path)
    return cast('Pixels', cv2.resize(image, size, interpolation=cv2.INTER_AREA) if size else image)


def _panel(image: Pixels, influence: npt.NDArray[np.float32], side: int, stride: int, stage: str) -> Pixels:
    """Draw one stage: bright where the central unit responds, and the square around it."""
    import cv2
    import numpy as np

    height, width = image.shape[:2]
    # Max-pooling selects single pixels; blur them to make their neighbourhood visible.
    smooth = cv2.GaussianBlur(influence, (0, 0), width / 120)
    seen = np.sqrt(smooth / smooth.max(initial=1e-30))[..., None]  # the root also shows the faint rim
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None] * 0.55
    lit = grey + seen * (image * 0.7 + np.array([0, 70, 150], np.float32) - grey)
    panel = cv2.resize(lit.clip(0, 255).astype(np.uint8), (PANEL, round(PANEL * height / width)))
    scale = PANEL / width
    corners = [
        (round((width // 2 + sign * (side // 2)) * scale), round((height // 2 + sign * (side // 2)) * scale))
        for sign in (-1, 1)
    ]
    cv2.rectangle(panel, corners[0], corners[1], YELLOW, 2, cv2.LINE_AA)
    middle = round(width // 2 * scale), round(height // 2 * scale)
    cv2.drawMarker(panel, middle, WHITE, cv2.MARKER_CROSS, 12, 1, cv2.LINE_AA)
    panel = cv2.copyMakeBorder(panel, 0, TEXT, 0, 0, cv2.BORDER_CONSTANT)
    base = panel.shape[0] - 11
    cv2.putText(panel, f'1/{stride} {TITLES[stage]}', (8, base), 0, 0.55, WHITE, 1, cv2.LINE_AA)
    label = f'90 % in {side} px'
    (text_width, _), _ = cv2.getTextSize(label, 0, 0.5, 1)
    cv2.putText(panel, label, (PANEL - 8 - text_width, base), 0, 0.5, GREY, 1, cv2.LINE_AA)
    return np.pad(panel, ((2, 2), (2, 2), (0, 0)), constant_values=60)
