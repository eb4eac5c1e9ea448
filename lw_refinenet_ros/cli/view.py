# SPDX-License-Identifier: Apache-2.0
"""Look at a source, or at the running node: classes with their names, confidence, latency, shares.

Opens the viewer Rerun (pip install 'lw_refinenet_ros[view]'). On the image the pointer shows the class of a
pixel by name.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

from lw_refinenet_ros.cli.options import (
    NODE,
    Progress,
    UsageError,
    add_engine_arguments,
    add_groups_argument,
    add_network_size_arguments,
    add_selection_arguments,
    file_ending_in,
    given_engine_options,
    load_segmenter,
    number,
    segmentable,
    source,
)
from lw_refinenet_ros.cli.outputs import RECORDING, Declared, Output
from lw_refinenet_ros.cli.terminal import print_more
from lw_refinenet_ros.one_line import counted, first_of

if TYPE_CHECKING:
    from lw_refinenet_ros.evaluation.rerun_log import ViewedFrame
    from lw_refinenet_ros.labels import LabelSet
    from lw_refinenet_ros.sources.source import SourceError

__all__ = ['add_arguments', 'outputs', 'run']

PORT = 9090


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        'source', nargs='?', type=source, metavar='SOURCE', help='image, folder, video, bag or camera:N'
    )
    what.add_argument(
        '--node', nargs='?', const=NODE, metavar='NAME', help=f'the running node (default name: {NODE})'
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        '--save',
        type=file_ending_in('.rrd'),
        metavar='FILE.rrd',
        help='write a file for the viewer instead of opening it',
    )
    where.add_argument(
        '--serve',
        nargs='?',
        const=PORT,
        type=number(int, 1, 65534),
        metavar='PORT',
        help='serve the viewer to browsers of the network on this port, and the data on the next '
        f'(default: {PORT})',
    )
    parser.add_argument('--topic', help="the bag's image topic, if it has several")
    add_selection_arguments(parser, every='1')
    add_engine_arguments(parser)
    add_groups_argument(parser)
    add_network_size_arguments(parser)


def outputs(options: argparse.Namespace) -> Declared:
    read = [options.source, options.weights, options.class_groups]
    return [Output('--save', options.save, RECORDING)], read


def run(options: argparse.Namespace) -> None:
    """Show every readable frame; after an interrupt or an error the file keeps what was seen."""
    from lw_refinenet_ros.evaluation.rerun_log import RerunLog

    _check(options)
    faults: list[SourceError] = []
    with ExitStack() as stack, ExitStack() as file:
        labels, frames = _of_node(options, stack) if options.node else _of_source(options, stack, faults)
        log = RerunLog(labels)
        if options.save:
            file.enter_context(log.file(options.save))
        elif options.serve:
            print(log.serve(options.serve), file=sys.stderr)
            print('on another machine, put the address of this one for both local ones', file=sys.stderr)
        else:
            log.open_viewer()
        progress, done = Progress(f'{options.node or options.source}: shown'), 0
        try:
            for frame in frames:
                if frame.labels is not labels:
                    labels = frame.labels
                    log.name_classes(labels)
                log.log(frame)
                if not options.save:
                    log.flush()  # fails once the viewer is closed
                done += 1
                progress.show(done)
            if options.serve:
                print('all frames are shown; Ctrl-C ends the server', file=sys.stderr)
                signal.pause()
            elif not options.save:
                log.wait_for_window()
        finally:
            if done:
                file.close()
        # Here, so that without a frame an earlier file is kept
        print_more(faults)
        if faults:
            raise ValueError(f'{first_of(faults)}; {counted(done, "frame", "was", "were")} shown')
        if not done:
            raise ValueError('there is no frame between --start and --end')


def _check(options: argparse.Namespace) -> None:
    """Refuse, before the work, options that would fail after it."""
    selects = options.topic or options.every or options.start or options.end < math.inf
    if options.node and (selects or given_engine_options(options)):
        raise UsageError('--node shows what the node publishes: the other options are for a SOURCE')
    has_display = sys.platform == 'darwin' or {'DISPLAY', 'WAYLAND_DISPLAY'} & set(os.environ)
    if not (options.save or options.serve or has_display):
        raise ValueError('there is no display for the viewer: use --save FILE.rrd or --serve')


def _of_source(
    options: argparse.Namespace, stack: ExitStack, faults: list[SourceError]
) -> tuple[LabelSet, Iterator[ViewedFrame]]:
    """Return the classes of the weights, and the frames of a source as they are segmented."""
    from lw_refinenet_ros.evaluation.rerun_log import ViewedFrame
    from lw_refinenet_ros.image.encodings import to_rgb
    from lw_refinenet_ros.sources.opening import open_source
    from lw_refinenet_ros.sources.selection import select

    opened = stack.enter_context(open_source(options.source, topic=options.topic, on_error=faults.append))
    segmenter = load_segmenter(options)

    def frames() -> Iterator[ViewedFrame]:
        before = time.perf_counter()
        selected = select(
            opened,
            every=options.every or 1,
            start_s=options.start,
            end_s=options.end,
            on_error=faults.append,
        )
        for frame, image in segmentable(selected, segmenter, faults.append):
            read = time.perf_counter()
            size = image.array.shape[0], image.array.shape[1]
            segmenter.prepare(segmenter.job(size, image.order, confidence=True))  # the first takes seconds
            ready = time.perf_counter()
            result = segmenter.segment(image.array, order=image.order, confidence=True)
            done = time.perf_counter()
            yield ViewedFrame(
                frame.stamp_ns,
                to_rgb(image),
                result.label,
                segmenter.labels,
                confidence=result.confidence,
                latency_ms={'read': (read - before) * 1e3, 'segment': (done - ready) * 1e3},
                figures={'rate_hz': 1 / (done - ready + read - before)},
            )
            before = time.perf_counter()

    return segmenter.labels, frames()


def _of_node(options: argparse.Namespace, stack: ExitStack) -> tuple[LabelSet, Iterator[ViewedFrame]]:
    """Return the classes and the frames that the running node publishes."""
    from lw_refinenet_ros.evaluation.rerun_log import ViewedFrame
    from lw_refinenet_ros.node.process.require_ros import require_ros

    require_ros()
    from lw_refinenet_ros.node.process.ros_context import ros_context
    from lw_refinenet_ros.node.watch import Watch

    stack.enter_context(ros_context([]))()
    watch = stack.enter_context(Watch('/' + options.node.strip('/')))
    frames = (ViewedFrame(**frame) for frame in watch.frames())
    return watch.labels(), frames
