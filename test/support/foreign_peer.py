# SPDX-License-Identifier: Apache-2.0
"""A camera and a subscriber of labels on Cyclone DDS, without ROS: `python -m test.support.foreign_peer`.

Publishes frames, receives the labels, and prints as JSON what it sent and received. Both use the vendor's own
code for messages, but only once: in Python it takes a second for a large one. Only the stamps differ.
"""

import argparse
import json
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from cyclonedds.core import Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct, types
from cyclonedds.idl.annotations import final
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration

from test.support import ROOT

LOOPBACK = """<CycloneDDS><Domain>
<General><AllowMulticast>false</AllowMulticast>
<Interfaces><NetworkInterface address="127.0.0.1"/></Interfaces></General>
<Discovery><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>40</MaxAutoParticipantIndex>
<Peers><Peer address="127.0.0.1"/></Peers></Discovery>
</Domain></CycloneDDS>"""
STAMP = struct.Struct('<iI')
STAMP_OFFSET = 4  # bytes, after the encapsulation
NANOSECONDS, FRAME_ID = 777, 'camera_optical'
PATIENCE_S, SETTLE_S = 60.0, 2.0


@dataclass
@final
class Time(IdlStruct, typename='builtin_interfaces::msg::dds_::Time_'):
    sec: types.int32
    nanosec: types.uint32


@dataclass
@final
class Header(IdlStruct, typename='std_msgs::msg::dds_::Header_'):
    stamp: Time
    frame_id: str


@dataclass
@final
class Image(IdlStruct, typename='sensor_msgs::msg::dds_::Image_'):
    header: Header
    height: types.uint32
    width: types.uint32
    encoding: str
    is_bigendian: types.uint8
    step: types.uint32
    data: types.sequence[types.uint8]


@dataclass
@final
class CompressedImage(IdlStruct, typename='sensor_msgs::msg::dds_::CompressedImage_'):
    header: Header
    format: str
    data: types.sequence[types.uint8]


class Peer:
    """Publishes a message again and again, and keeps the labels that come, serialized."""

    def __init__(self, message: Image | CompressedImage, *, reliable: bool) -> None:
        kind = type(message)
        self._message, self._content = message, bytearray(message.serialize(use_version_2=False))
        kind.serialize = lambda *_, **__: bytes(self._content)
        self.read, Image.deserialize = Image.deserialize, staticmethod(lambda cdr, **_: _Raw(cdr))
        self.sent_ns: list[int] = []
        self.labels: list[tuple[int, bytes]] = []
        participant = DomainParticipant(int(os.environ.get('ROS_DOMAIN_ID', '0')))
        kinds = Policy.Reliability.BestEffort, Policy.Reliability.Reliable(duration(milliseconds=100))
        representation = Policy.DataRepresentation(use_cdrv0_representation=True)
        qos = [Qos(kinds[reliable], Policy.History.KeepLast(depth), representation) for depth in (1, 20)]
        topic = 'rt/image' if kind is Image else 'rt/image/compressed'
        self.writer = DataWriter(participant, Topic(participant, topic, kind), qos[0])
        self._reader = DataReader(participant, Topic(participant, 'rt/lw_refinenet/label', Image), qos[1])

    @property
    def matched(self) -> bool:
        return bool(self.writer.get_matched_subscriptions() and self._reader.get_matched_publications())

    def send(self) -> None:
        STAMP.pack_into(self._content, STAMP_OFFSET, len(self.sent_ns), NANOSECONDS)
        self.sent_ns.append(time.monotonic_ns())
        self.writer.write(self._message)

    def take(self, until: float) -> None:
        """Take labels until a time of the monotonic clock."""
        while True:
            self.labels += [(time.monotonic_ns(), raw.cdr) for raw in self._reader.take(20)]
            if time.monotonic() >= until:
                return
            time.sleep(0.001)


class _Raw:
    def __init__(self, cdr: bytes) -> None:
        self.cdr = bytes(cdr)


def main() -> None:
    """Publish a number of frames, or until so many labels came."""
    parser = argparse.ArgumentParser(prog='python -m test.support.foreign_peer')
    parser.add_argument('image', help='WxH, or a JPEG file')
    parser.add_argument('--best-effort', action='store_true')
    parser.add_argument('--frames', type=int, help='to send (default: until there are labels)')
    parser.add_argument('--labels', type=int, default=3)
    parser.add_argument('--rate', type=float, default=30.0)
    options = parser.parse_args()
    os.environ['CYCLONEDDS_URI'] = f'{LOOPBACK},file://{ROOT}/config/cyclonedds_large_images.xml'
    peer = Peer(_message(options.image), reliable=not options.best_effort)
    end = time.monotonic() + PATIENCE_S
    while not peer.matched and time.monotonic() < end:
        time.sleep(0.05)
    if options.frames:
        time.sleep(SETTLE_S)  # by then the node follows our reliability
    due = time.monotonic()
    while time.monotonic() < end and (
        len(peer.sent_ns) < options.frames if options.frames else len(peer.labels) < options.labels
    ):
        peer.send()
        due += 1 / options.rate
        peer.take(due)
    if options.frames:
        peer.take(time.monotonic() + SETTLE_S)
    indices = [STAMP.unpack_from(cdr, STAMP_OFFSET)[0] for _, cdr in peer.labels]
    ages_ms = [(ns - peer.sent_ns[index]) / 1e6 for (ns, _), index in zip(peer.labels, indices)]
    result = {'sent': len(peer.sent_ns), 'labels': indices, 'age_ms': ages_ms}
    if peer.labels:
        last = peer.read(peer.labels[-1][1])
        result['header'] = [last.header.stamp.sec, last.header.stamp.nanosec, last.header.frame_id]
        result['image'] = [last.height, last.width, last.encoding, last.step, len(last.data)]
    print(json.dumps(result))


def _message(image: str) -> Image | CompressedImage:
    header = Header(Time(0, 0), FRAME_ID)
    if Path(image).is_file():
        return CompressedImage(header, 'rgb8; jpeg compressed bgr8', list(Path(image).read_bytes()))
    width, height = map(int, image.split('x'))
    pixels = bytes(range(256)) * (3 * width * height // 256 + 1)
    return Image(header, height, width, 'rgb8', 0, 3 * width, list(pixels[: 3 * width * height]))


if __name__ == '__main__':
    main()
