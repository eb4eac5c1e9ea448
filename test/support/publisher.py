# SPDX-License-Identifier: Apache-2.0
"""The player's own process with made-up frames: `python -m test.support.publisher`, ended by a signal."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from lw_refinenet_ros.cli.options import image_size
from lw_refinenet_ros.image.frame import Frame
from lw_refinenet_ros.node.replay.player import Playing, Sent, Track, play
from lw_refinenet_ros.sources.source import START_NS, Source, SourceFrame


class Pictures(Source):
    """A smooth random rgb8 picture that moves on from frame to frame."""

    def __init__(self, size: tuple[int, int], rate_hz: float, frames: int) -> None:
        super().__init__('made-up pictures')
        self.length, self.rate_hz = frames, rate_hz
        noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
        picture = cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)
        self._pictures = [np.roll(picture, 8 * step, axis=1) for step in range(4)]

    def __iter__(self) -> Iterator[SourceFrame]:
        for index in range(self.length):
            stamp_ns = START_NS + round(index * 1e9 / self.rate_hz)
            picture = self._pictures[index % len(self._pictures)]
            frame = Frame.from_array(picture, stamp_ns=stamp_ns, frame_id='camera', encoding='rgb8')
            yield SourceFrame.of(frame, log_ns=stamp_ns, name=str(stamp_ns), where=f'picture {index}')


def publish(arguments: list[str]) -> None:
    """Publish on `image` as the options say."""
    parser = argparse.ArgumentParser(prog='python -m test.support.publisher', description=__doc__)
    parser.add_argument('--size', type=image_size, default=(480, 640), metavar='WxH')
    parser.add_argument('--rate', type=float, default=30.0, metavar='HZ')
    parser.add_argument('--frames', type=int, default=1 << 40)
    parser.add_argument('--loop', action='store_true', help='begin again at the first stamp')
    parser.add_argument('--clock', action='store_true', help='publish /clock')
    parser.add_argument('--wait', action='store_true', help='for a subscriber')
    parser.add_argument('--log', type=Path, help='JSON of stamp, due and sent times in ns')
    options = parser.parse_args(arguments)
    records: list[Sent] = []
    how = Playing(loop=options.loop, clock=options.clock, wait_for_subscriber=options.wait)
    source = Pictures(options.size, options.rate, options.frames)
    play([Track(source, 'image')], how, records.append if options.log else lambda _: None, lambda: False)
    if options.log:
        options.log.write_text(json.dumps(records))


if __name__ == '__main__':
    publish(sys.argv[1:])
