# SPDX-License-Identifier: Apache-2.0
"""Time the engines of this machine against the published pipeline: image in, label and overlay out."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lw_refinenet_ros.cli.options import Progress, add_weights_argument, image_size, number
from lw_refinenet_ros.cli.outputs import JSON, Declared, Output
from lw_refinenet_ros.cli.table import print_table
from lw_refinenet_ros.one_line import counted
from lw_refinenet_ros.resources import DEFAULT_WEIGHTS

if TYPE_CHECKING:
    from lw_refinenet_ros.inference.engine import Pixels
    from lw_refinenet_ros.inference.measured import Choice
    from lw_refinenet_ros.inference.segmenter import Segmenter

__all__ = ['add_arguments', 'outputs', 'run']

UPSTREAM = 'published pipeline'
STAGES = ('segment', 'overlay')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_weights_argument(parser, DEFAULT_WEIGHTS)
    parser.add_argument(
        '--size',
        type=image_size,
        nargs='+',
        default=[(480, 640)],
        help='one or more image sizes WxH (default: 640x480)',
    )
    parser.add_argument('--threads', type=number(int, 0), default=0, help='CPU threads (default: all cores)')
    parser.add_argument('--rounds', type=number(int, 1), default=20, help='interleaved rounds (default: 20)')
    parser.add_argument('--image', metavar='FILE', help='image like those it will see, to judge int8 on')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the table to this file')
    parser.add_argument(
        '--save',
        action='store_true',
        help="let 'auto' use the fastest engine for the first size on this machine from now on",
    )


def outputs(options: argparse.Namespace) -> Declared:
    from lw_refinenet_ros.inference.measured import measured_path

    saved = measured_path() if options.save else None
    return [Output('--json', options.json, JSON), Output('--save', saved, JSON)], [
        options.weights,
        options.image,
    ]


def run(options: argparse.Namespace) -> None:
    """Time all engines in interleaved rounds, size by size, and print a table."""
    import cv2
    import numpy as np
    import torch

    from lw_refinenet_ros.cli.environment import machine
    from lw_refinenet_ros.files import write_json
    from lw_refinenet_ros.inference.choice import choose, machine_here
    from lw_refinenet_ros.inference.measured import Choice, save_measured
    from lw_refinenet_ros.model.weights import load_model

    picture = _read(options.image) if options.image else _blobs()
    if options.threads:
        torch.set_num_threads(options.threads)
    network, card = load_model(options.weights)
    segmenters = _segmenters(options.weights, options.threads)
    print(f'{card.architecture}, {counted(card.num_classes, "class")}; {machine()}')
    tables = []
    for size in options.size:
        image = np.asarray(cv2.resize(picture, size[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)
        rows = _measure(network, card, segmenters, image, options.rounds)
        _show(size, rows, judged=bool(options.image))
        tables.append({'size': list(size), 'rows': rows})
    if options.json:
        about = {'machine': machine(), 'architecture': card.architecture, 'rounds': options.rounds}
        write_json(options.json, about | {'tables': tables})
    if options.save:
        path = save_measured(card.architecture, _fastest_first(tables[0]['rows'], judged=bool(options.image)))
        choice, why = choose(Choice('auto', 'auto', 'auto'), card, machine_here(card.architecture))
        print(f"{path}: 'auto' takes {' '.join(choice)} for {card.architecture} on this machine: {why}")


def _fastest_first(rows: list[dict[str, Any]], *, judged: bool) -> list[Choice]:
    """Return the choices for 'auto', fastest first; judged int8 only if it agrees with float32."""
    from lw_refinenet_ros.inference.choice import LEAST_AGREEMENT
    from lw_refinenet_ros.inference.measured import Choice

    choices = []
    for row in sorted(rows, key=lambda row: row['p50_ms']):
        if row['name'] == UPSTREAM:
            continue
        choice = Choice(*row['name'].split())
        if judged and choice.precision == 'int8' and row['agreement'] < LEAST_AGREEMENT:
            print(
                f"{row['name']} is not for 'auto': it gives {row['agreement']:.2%} of float32's labels on "
                f'this image, less than {LEAST_AGREEMENT:.0%}: quantize with frames like those it will see'
            )
            continue
        choices.append(choice)
    return choices


def _segmenters(weights: str, threads: int) -> dict[str, Segmenter]:
    """Return every engine that works here, by engine, device and precision; `info` explains the others."""
    from lw_refinenet_ros.inference.choice import machine_here
    from lw_refinenet_ros.inference.engine import DEVICES, ENGINES, PRECISIONS, EngineError
    from lw_refinenet_ros.inference.segmenter import Segmenter

    native = machine_here().openvino
    found = {}
    for engine, device, precision in itertools.product(ENGINES[1:], DEVICES[1:], PRECISIONS[1:]):
        name = f'{engine} {device} {precision}'
        if name == 'torch cpu bf16' and native and precision not in native:
            print(f'{name} is skipped: this CPU has no bf16, and PyTorch takes seconds to emulate it')
            continue
        with suppress(EngineError):
            found[name] = Segmenter.load(
                weights, engine=engine, device=device, precision=precision, threads=threads
            )
    return found


def _measure(
    network: Any, card: Any, segmenters: dict[str, Segmenter], image: Pixels, rounds: int
) -> list[dict[str, Any]]:
    """Time everything on an image; return one row each in milliseconds, and the medians of the stages."""
    import time

    import numpy as np

    from lw_refinenet_ros.inference.baseline import UpstreamPipeline, time_interleaved

    height, width = image.shape[:2]
    upstream = UpstreamPipeline(network, card)
    stages: dict[str, list[tuple[float, float]]] = {name: [] for name in segmenters}

    def whole(name: str) -> None:
        started = time.perf_counter()
        result = segmenters[name].segment(image)
        segmented = time.perf_counter()
        result.overlay(0.5)
        stages[name].append((segmented - started, time.perf_counter() - segmented))

    calls: dict[str, Callable[[], object]] = {UPSTREAM: lambda: upstream(image)}
    calls |= {name: lambda name=name: whole(name) for name in segmenters}  # type: ignore[misc]
    progress = Progress(f'{width}x{height}: round', rounds)
    times = time_interleaved(calls, rounds, progress.show)
    labels = {name: segmenter.segment(image).label for name, segmenter in segmenters.items()}
    rows = []
    for name, values in times.items():
        p50, p95 = np.percentile(values, (50, 95))
        row = {'name': name, 'p50_ms': p50, 'p95_ms': p95, 'agreement': None}
        row['speedup'] = float(np.median(np.divide(times[UPSTREAM], values)))
        if name != UPSTREAM:  # upstream upsamples differently
            row['agreement'] = float((labels[name] == labels['torch cpu fp32']).mean())
            medians = np.median(stages[name][1:], axis=0) * 1e3
            row['stages_ms'] = dict(zip(STAGES, medians.tolist()))
        rows.append(row)
    return rows


def _show(size: tuple[int, int], rows: list[dict[str, Any]], *, judged: bool) -> None:
    """Print the rows of one size; without an image of the user's, labels are not worth comparing."""
    table = [[f'{size[1]}x{size[0]}', 'p50 ms', 'p95 ms', 'speed-up', 'same label', *STAGES]]
    for row in rows:
        own = ['', *('' for _ in STAGES)]
        if row['agreement'] is not None:
            own = [
                f'{row["agreement"]:.2%}' if judged else '',
                *(f'{row["stages_ms"][stage]:.1f}' for stage in STAGES),
            ]
        times = [f'{row["p50_ms"]:.1f}', f'{row["p95_ms"]:.1f}', f'{row["speedup"]:.1f}x']
        table.append([row['name'], *times, *own])
    print_table(table, '<>>>>>>')


def _read(path: str) -> Pixels:
    import cv2
    import numpy as np

    from lw_refinenet_ros.sources.images import read_image

    return np.asarray(cv2.cvtColor(read_image(Path(path)), cv2.COLOR_BGR2RGB), np.uint8)


def _blobs() -> Pixels:
    """Return smooth blobs, uint8 (H, W, 3): the time hardly depends on the content."""
    import cv2
    import numpy as np

    noise = np.random.default_rng(0).integers(0, 255, (9, 12, 3), np.uint8)
    return np.asarray(cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC), np.uint8)
