# SPDX-License-Identifier: Apache-2.0
"""Score weights on images with masks: mIoU, per-class IoU, pixel accuracy and latency."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lw_refinenet_ros.cli.options import Progress, add_engine_arguments, load_segmenter

if TYPE_CHECKING:
    import argparse

    from lw_refinenet_ros.inference.segmenter import Segmenter

__all__ = ['add_arguments', 'run', 'score']


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument('--images', type=Path, required=True, help='folder of images')
    parser.add_argument('--labels', type=Path, required=True, help='folder of masks, NAME.png of class ids')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the metrics there')
    add_engine_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Score and print."""
    from lw_refinenet_ros.evaluation.files import write_json
    from lw_refinenet_ros.sources.images import images_in

    segmenter = load_segmenter(options)
    images = images_in(options.images)
    if not images:
        msg = f'{options.images} has no images'
        raise ValueError(msg)
    missing = [p.name for p in images if not (options.labels / f'{p.stem}.png').is_file()]
    if missing:
        some = ', '.join(missing[:5])
        msg = f'{options.labels} has no mask for {len(missing)} of {len(images)} images: {some}'
        raise ValueError(msg)
    metrics = score(segmenter, [(p, options.labels / f'{p.stem}.png') for p in images])
    for name, value in metrics['per_class_iou'].items():
        print(f'  {name:<16}{"absent" if value is None else f"{value:6.1%}"}')
    accuracy = f'mIoU {metrics["miou"]:.1%}, pixel accuracy {metrics["pixel_accuracy"]:.1%}'
    print(f'{accuracy} on {metrics["frames"]} frames')
    latency = metrics['latency_ms']
    print(f'latency p50 {latency["p50"]:.1f} ms, p95 {latency["p95"]:.1f} ms, p99 {latency["p99"]:.1f} ms')
    if options.json:
        write_json(options.json, metrics)


def score(segmenter: Segmenter, pairs: list[tuple[Path, Path]]) -> dict[str, Any]:
    """Segment every image and compare it with its mask; ratios are fractions of 1.

    Raises:
        ValueError: an image or a mask cannot be read, or they differ in size.

    """
    from lw_refinenet_ros.evaluation.metrics import Confusion, percentiles
    from lw_refinenet_ros.image.frame import decode_image
    from lw_refinenet_ros.image.labels import read_label_png

    confusion = Confusion(len(segmenter.labels.names))
    latencies = []
    progress = Progress('scored', len(pairs))
    for index, (image_path, mask_path) in enumerate(pairs):
        image = decode_image(image_path.read_bytes())
        segmenter.prepare((image.shape[0], image.shape[1]), order='bgr')
        started = time.perf_counter()
        result = segmenter.segment(image, order='bgr')
        latencies.append((time.perf_counter() - started) * 1e3)
        try:
            confusion.update(result.label, read_label_png(mask_path))
        except ValueError as error:
            msg = f'{mask_path}: {error}'
            raise ValueError(msg) from error
        progress.show(index + 1)
    return {
        'miou': confusion.miou,
        'pixel_accuracy': confusion.pixel_accuracy,
        'per_class_iou': {
            name: None if value != value else float(value)
            for name, value in zip(segmenter.labels.names, confusion.iou)
        },
        'frames': len(pairs),
        'latency_ms': percentiles(latencies),
    }
