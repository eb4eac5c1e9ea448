# SPDX-License-Identifier: Apache-2.0
"""Publishes recorded frames as image topics, each frame when it is due."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import rclpy
from rclpy._rclpy_pybind11 import RCLError
from rclpy.duration import Duration
from rclpy.exceptions import NameValidationException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy
from rclpy.serialization import deserialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

from lw_refinenet_ros.image.encodings import rgb
from lw_refinenet_ros.image.frame import Frame, serialize_image
from lw_refinenet_ros.node.message_buffers import publish_serialized, publishes_serialized
from lw_refinenet_ros.node.outputs import fill_image, fill_jpeg, header_of, jpeg_message
from lw_refinenet_ros.node.process.malloc import keep_large_allocations
from lw_refinenet_ros.node.process.ros_context import ros_context
from lw_refinenet_ros.node.replay.qos import profile_of
from lw_refinenet_ros.sources.bag_formats.storage import Message, Topic
from lw_refinenet_ros.sources.other_topics import OtherTopics
from lw_refinenet_ros.sources.source import Source, SourceFrame

__all__ = ['Playing', 'Sent', 'Track', 'play']

SETTLE_S = 2.0  # subscribers that follow our reliability have done so by then
FLUSH_S = 2.0  # subscribers that live have acknowledged the last frames by then
LINGER_S = 0.3  # a subscriber on a busy machine has read its shared memory by then
NAP_S = 0.1  # the longest sleep, so that an interrupt or a key is noticed


class Track(NamedTuple):
    """A source of frames and the topic they go to."""

    source: Source
    topic: str


class Sent(NamedTuple):
    """A frame that was published or, for want of room, refused; its times by the monotonic clock."""

    stamp_ns: int
    due_ns: int
    sent_ns: int
    refused: bool = False


class Playing(NamedTuple):
    """Options of a replay."""

    rate: float = 1.0  # speed; 2 is twice as fast
    start_s: float = 0.0  # seconds to skip at the beginning
    loop: bool = False  # whether to begin again at the end
    clock: bool = False  # whether to publish each frame's stamp on /clock before it
    wait_for_subscriber: bool = False  # whether to begin only when a topic has a subscriber
    compressed: bool = False  # whether images go out as JPEG, on TOPIC/compressed


def play(
    tracks: Sequence[Track],
    how: Playing,
    sent: Callable[[Sent], None],
    toggled: Callable[[], bool],
    others: OtherTopics | None = None,
) -> bool:
    """Play to the end, or for ever with `loop`; False if it was interrupted.

    Args:
        tracks: the sources and their topics.
        how: the options.
        sent: called for every frame.
        toggled: whether to pause, or to go on, now; called every tenth of a second and before every frame.
        others: messages to publish beside the images, under their own names.

    Raises:
        ValueError: there is no frame to play.
    """
    keep_large_allocations()
    finished = False
    with ros_context([]) as started:
        started()
        player = Player(tracks, how, sent, toggled, others)
        if how.wait_for_subscriber:
            player.wait_for_subscriber()
        while rclpy.ok():
            player.play()
            if not how.loop:
                break
        if rclpy.ok():
            player.flush()
            finished = True
    return finished


class _Channel:
    """One topic, with the recorded quality of service, and the message whose memory is used again.

    Images go out serialized if they may: rclpy would convert them within the publish call.
    """

    def __init__(self, node: Node, track: Track, *, compressed: bool) -> None:
        topic = f'{track.topic}/compressed' if compressed else track.topic
        self.serializes = not compressed and publishes_serialized()
        self._typed: Image | CompressedImage = jpeg_message() if compressed else Image()
        self.message: Image | CompressedImage | bytes = self._typed
        try:
            self.publisher = node.create_publisher(type(self._typed), topic, profile_of(track.source.offered))
        except NameValidationException as error:
            raise ValueError(
                f'{track.topic!r} is not a valid topic name: {str(error).splitlines()[0]}'
            ) from error

    def publish(self) -> None:
        """Publish what was filled in.

        Raises:
            RCLError: the middleware had no room for it in time.
        """
        if isinstance(self.message, bytes):
            publish_serialized(self.publisher, self.message)
        else:
            self.publisher.publish(self.message)

    def fill(self, frame: Frame) -> None:
        """Copy a frame into the message; stamp, frame id and pixels go out as they came, or as JPEG."""
        if self.serializes:
            self.message = serialize_image(frame)
            return
        self.message = self._typed
        if isinstance(self._typed, CompressedImage):
            fill_jpeg(self._typed, header_of(frame), rgb(frame))
        else:
            fill_image(self._typed, frame)


class _OtherChannel:
    """A topic of another type, with the recorded quality of service."""

    def __init__(self, node: Node, topic: Topic) -> None:
        package, _, name = topic.msgtype.split('/')
        self._kind = getattr(import_module(f'{package}.msg'), name)
        self.message: Any = None
        profile = profile_of(topic.offered)
        self.is_latched = profile.durability == DurabilityPolicy.TRANSIENT_LOCAL  # as static transforms are
        self.publisher = node.create_publisher(self._kind, topic.name, profile)

    def publish(self) -> None:
        """Publish what was filled in."""
        self.publisher.publish(self.message)

    def fill(self, message: Message) -> None:
        """Take a serialized message."""
        self.message = deserialize_message(message.data, self._kind)


class Player(Node):  # type: ignore[misc]
    """Plays tracks side by side, merged by log time."""

    def __init__(
        self,
        tracks: Sequence[Track],
        how: Playing,
        sent: Callable[[Sent], None],
        toggled: Callable[[], bool],
        others: OtherTopics | None,
    ) -> None:
        super().__init__('lw_refinenet_player')
        self._others, self._other_channels = others, dict[str, _OtherChannel]()
        for topic in others.topics if others is not None else ():
            try:
                self._other_channels[topic.name] = _OtherChannel(self, topic)
            except ImportError as error:
                self.get_logger().warning(f'{topic.name} ({topic.msgtype}) is not played: {error}')
        self._tracks, self._how, self._sent, self._toggled = tracks, how, sent, toggled
        self._channels = [_Channel(self, track, compressed=how.compressed) for track in tracks]
        self._clock: Publisher | None = self.create_publisher(Clock, '/clock', 1) if how.clock else None

    def wait_for_subscriber(self) -> None:
        """Wait until an image has a subscriber, and all topics have had the same ones for two seconds."""
        started = since = time.monotonic()
        known = set[tuple[int, ...]]()
        topics = [channel.publisher.topic_name for channel in self._channels]
        watched = (*topics, *self._other_channels)
        while rclpy.ok() and time.monotonic() - since < SETTLE_S:
            infos = [info for topic in watched for info in self.get_subscriptions_info_by_topic(topic)]
            there = {tuple(info.endpoint_gid) for info in infos}
            heard = any(channel.publisher.get_subscription_count() for channel in self._channels)
            if not heard or there != known:
                since, known = time.monotonic(), there
            if not heard and since - started > SETTLE_S:
                self.get_logger().info(f'waiting for a subscriber of {" or ".join(topics)}', once=True)
            time.sleep(NAP_S)

    def _frames(self) -> Iterator[tuple[Any, Any]]:
        """Yield each frame or other message with its channel, by log time."""

        def of(track: Track, channel: _Channel) -> Iterator[tuple[SourceFrame, _Channel]]:
            for frame in track.source:
                yield frame, channel

        def of_others() -> Iterator[tuple[Message, _OtherChannel]]:
            for message in self._others or ():
                if message.topic.name in self._other_channels:
                    yield message, self._other_channels[message.topic.name]

        tracks = [of(track, channel) for track, channel in zip(self._tracks, self._channels)]
        return heapq.merge(of_others(), *tracks, key=lambda pair: pair[0].log_ns)

    def play(self) -> None:
        """Publish every frame, as far apart as they were recorded, divided by the rate.

        The header stamps, which need not rise, do not matter to the pace.

        Raises:
            ValueError: there is none, or none so late.
        """
        begin_ns: int | None = None  # the log time that is due at `start_ns`
        start_ns, log_ns, played = 0, 0, False
        for frame, channel in self._frames():
            if not rclpy.ok():
                return
            if begin_ns is None:
                begin_ns = frame.log_ns + round(self._how.start_s * 1e9)
                start_ns = time.monotonic_ns()
            is_image = isinstance(channel, _Channel)
            if frame.log_ns < begin_ns and not played and (is_image or not channel.is_latched):
                start_ns = time.monotonic_ns()  # skipped frames take no time
                continue
            channel.fill(frame)
            log_ns = max(log_ns, frame.log_ns)  # a recorder's clock that was set back costs no time either
            while rclpy.ok():
                start_ns += self._pause()
                due_ns = start_ns + round((log_ns - begin_ns) / self._how.rate)
                left_s = (due_ns - time.monotonic_ns()) / 1e9
                if left_s <= 0:
                    break
                time.sleep(min(left_s, NAP_S))
            if not rclpy.ok():
                return
            if self._clock is not None and is_image and frame.stamp_ns:  # a clock of zero is not set
                self._clock.publish(Clock(clock=header_of(frame).stamp))
            # Before publishing: the subscriber may have the frame before publish() returns.
            sent_ns = time.monotonic_ns()
            refused = False
            try:
                channel.publish()
            except RCLError as error:  # the middleware had no room for it in time: the next may fit
                if not rclpy.ok():
                    return
                self.get_logger().warning(f'a frame was not sent: {error}', throttle_duration_sec=1.0)
                refused = True
            if is_image:
                self._sent(Sent(frame.stamp_ns, due_ns, sent_ns, refused))
                played = True
        if not played and rclpy.ok():
            sources = ', '.join(track.source.description for track in self._tracks)
            raise ValueError(f'{sources}: no frame comes {self._how.start_s:g} s after the first, or later')

    def flush(self) -> None:
        """Wait until every subscriber has the last frames: they go when their publisher goes."""
        for channel in self._channels:
            channel.publisher.wait_for_all_acked(Duration(seconds=FLUSH_S))
        time.sleep(LINGER_S)  # best-effort subscribers acknowledge nothing

    def _pause(self) -> int:
        """Wait from one toggle to the next; return the duration in ns, or 0."""
        if not self._toggled():
            return 0
        since_ns = time.monotonic_ns()
        while rclpy.ok() and not self._toggled():
            time.sleep(NAP_S)
        return time.monotonic_ns() - since_ns
