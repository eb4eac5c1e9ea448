# SPDX-License-Identifier: Apache-2.0
"""Export a network to ONNX: normalised float image in, logits at stride 4 out (needs onnx)."""

from __future__ import annotations

import argparse
import sys

from lw_refinenet_ros.cli.options import file_ending_in, image_size
from lw_refinenet_ros.cli.outputs import ONNX, Declared, Output
from lw_refinenet_ros.one_line import counted

__all__ = ['add_arguments', 'outputs', 'run']


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('weights', metavar='NAME|FILE', help='shipped weights or a file')
    parser.add_argument(
        '--output',
        type=file_ending_in('.onnx'),
        required=True,
        metavar='FILE.onnx',
        help='the file to write',
    )
    parser.add_argument(
        '--size',
        type=image_size,
        default=(480, 640),
        metavar='WxH',
        help="image size; the file's input is larger if the weights enlarge such images (default: 640x480)",
    )


def outputs(options: argparse.Namespace) -> Declared:
    return [Output('--output', options.output, ONNX)], [options.weights]


def run(options: argparse.Namespace) -> None:
    """Export the rewritten network in float32, for one image size and any batch size."""
    from lw_refinenet_ros.inference.onnx_file import write_onnx
    from lw_refinenet_ros.model.weights import load_model

    network, card = load_model(options.weights)
    height, width = write_onnx(network, card, options.output, options.size)
    classes = counted(card.num_classes, 'class')
    print(f'{options.output}: (N, 3, {height}, {width}) float32 to logits of {classes}')
    if (height, width) != options.size:
        print(
            f'{options.size[1]}x{options.size[0]} images have to be enlarged to {width}x{height}: '
            "the weights' least size",
            file=sys.stderr,
        )
    if card.quantization:
        print('its int8 ranges are not exported: the file is float32', file=sys.stderr)
