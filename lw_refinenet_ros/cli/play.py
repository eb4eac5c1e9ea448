# SPDX-License-Identifier: Apache-2.0
"""Publish a bag, video, folder or camera as an image topic, in real time."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from lw_refinenet_ros.cli.options import Progress

if TYPE_CHECKING:
    import argparse

__all__ = ['add_arguments', 'run']

INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument('source', metavar='SOURCE', help='bag, video, folder of images, image or camera:N')
    parser.add_argument('--topic', help="the bag's image topic, if it has several")
    parser.add_argument('--output-topic', help="where to publish (default: the bag's topic; else 'image')")
    parser.add_argument('--rate', type=float, default=1.0, help='speed; 2 is twice as fast (default: 1)')
    parser.add_argument('--loop', action='store_true', help='begin again at the end')
    parser.add_argument('--clock', action='store_true', help="publish the frames' stamps on /clock")
    parser.add_argument('--wait-for-subscriber', action='store_true', help='begin when somebody listens')
    parser.add_argument('--log', type=Path, help='JSON lines: stamp_ns, due_ns, sent_ns of every frame')


def run(options: argparse.Namespace) -> int:
    """Play until the end, or until interrupted."""
    if not options.rate > 0:
        msg = f'--rate {options.rate} must be above 0'
        raise ValueError(msg)
    from lw_refinenet_ros.sources.opening import open_source

    with ExitStack() as stack:
        source = stack.enter_context(open_source(options.source, topic=options.topic))
        # Only now: a source at fault is said even where ROS is missing.
        from lw_refinenet_ros.node.player import Sent, play

        log = stack.enter_context(options.log.open('w')) if options.log else None
        progress = Progress('played', None if options.loop else source.length)
        played = 0

        def sent(record: Sent) -> None:
            nonlocal played
            played += 1
            if log is not None:
                log.write(json.dumps(record._asdict()) + '\n')
            progress.show(played)

        whole = play(
            source,
            options.output_topic or source.topic,
            rate=options.rate,
            loop=options.loop,
            clock=options.clock,
            wait_for_subscriber=options.wait_for_subscriber,
            sent=sent,
        )
        return 0 if whole else INTERRUPTED
