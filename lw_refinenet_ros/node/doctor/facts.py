# SPDX-License-Identifier: Apache-2.0
"""What was seen of a running system, free of ROS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lw_refinenet_ros.node.depth_pairing import TOLERANCE_NS

__all__ = ['Camera', 'Endpoint', 'Facts', 'Message', 'Stream']


@dataclass(frozen=True)
class Endpoint:
    """A publisher or subscriber: its node's full name, the type of its messages, its quality of service."""

    node: str
    type: str
    reliable: bool
    latched: bool


@dataclass(frozen=True)
class Message:
    """The header and the size of an image, camera_info or cloud; `bytes` is its length when serialized."""

    stamp_ns: int
    frame_id: str
    height: int
    width: int
    bytes: int
    received_ns: int = 0  # by the system's clock
    shift: float = 0.0  # of a camera_info: how far rectification moves pixels at most, by the width

    @property
    def elements(self) -> int:
        """The number of pixels or points."""
        return self.width * self.height


@dataclass(frozen=True)
class Stream:
    """A topic, and the messages that came on it within a time; a subscriber of the doctor's is left out."""

    topic: str
    publishers: tuple[Endpoint, ...] = ()
    subscribers: tuple[Endpoint, ...] = ()
    messages: tuple[Message, ...] = ()
    seconds: float = 0.0

    @property
    def last(self) -> Message | None:
        """The last message, None without one."""
        return self.messages[-1] if self.messages else None

    @property
    def stamps_ns(self) -> set[int]:
        """The stamps of the messages."""
        return {message.stamp_ns for message in self.messages}


@dataclass(frozen=True)
class Camera:
    """A camera of the node."""

    name: str  # empty for the only camera
    level: int  # of its last diagnostic status: 0 OK, 1 WARN, 2 ERROR
    message: str  # of that status
    values: Mapping[str, str]  # of that status
    counted: Mapping[str, int]  # frames by fate while the doctor watched
    # Topics by role: image, label, confidence, points, and the inputs of the points
    streams: Mapping[str, Stream]


@dataclass(frozen=True)
class Facts:
    """All that was seen."""

    node: str  # the segmentation node's full name
    middleware: str  # identifier of the RMW implementation in use
    separation: str = ''  # why processes of this machine may not hear each other, and what to do
    cameras: tuple[Camera, ...] = ()  # of the node; none if the node was not found
    running: tuple[str, ...] = ()  # the segmentation nodes that publish diagnostics
    # Types of every topic that is published
    topics: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # `use_sim_time` of the node and the costmaps, by node
    sim_time: Mapping[str, bool] = field(default_factory=dict)
    tolerance_ns: int = TOLERANCE_NS  # between the stamps of a depth or cloud and its image, of the node
    clock: bool = False  # whether somebody publishes /clock
    # Class names by id as latched on `~/label_names`; None if nothing came
    names: Mapping[int, str] | None = None
    label_info: Mapping[int, str] | None = None  # the same of `~/label_info`
    latched: Mapping[str, Stream] = field(default_factory=dict)  # these two topics, by their last part
    # Parameters of the costmaps with a semantic layer, by node
    costmaps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # Frame by its child frame in tf; None where tf2_msgs is not installed
    parents: Mapping[str, str] | None = None
    free_bytes: int = 2**40  # of shared memory
    segments: tuple[int, ...] = ()  # sizes of Fast DDS' shared memory segments on this machine, in bytes
