# SPDX-License-Identifier: Apache-2.0
"""Collects the facts about a running system: watches its graph, its topics and its parameters."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy._rclpy_pybind11 import NodeNameNonExistentError
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.topic_endpoint_info import TopicEndpointInfo
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import String

from lw_refinenet_ros.image.frame import CdrReader, FrameError
from lw_refinenet_ros.node.depth_pairing import TOLERANCE_NS
from lw_refinenet_ros.node.diagnostics import TOPIC, Status, output_topic, read_status
from lw_refinenet_ros.node.doctor.facts import Camera, Endpoint, Facts, Message, Stream
from lw_refinenet_ros.node.doctor.nav2_parameters import layers
from lw_refinenet_ros.node.doctor.rectification import largest_shift
from lw_refinenet_ros.node.label_info import LATCHED
from lw_refinenet_ros.node.process.fast_dds import free_bytes, segment_sizes
from lw_refinenet_ros.node.process.middleware import separation

__all__ = ['collect']

NAME = 'lw_refinenet_doctor'
PATIENCE_S = 10.0  # until the node's diagnostics, which come once a second, and until a service answers
DEPTH = 10
OUTPUTS = {'label': Image, 'confidence': Image, 'points': PointCloud2}
INPUTS = {'depth': Image, 'camera_info': CameraInfo, 'cloud': PointCloud2}


def collect(node: str, seconds: float) -> Facts:
    """Watch a segmentation node and what it is connected with.

    Subscribing to its outputs makes it compute them.

    Args:
        node: its fully qualified name.
        seconds: how long to watch the messages.
    """
    watch = _Watch(node)
    try:
        watch.spin(PATIENCE_S, lambda: bool(watch.statuses))
        if watch.statuses:
            watch.open()
            watch.spin(seconds)
        return watch.facts()
    finally:
        watch.executor.shutdown()
        watch.ros.destroy_node()


class _Watch:
    """A node of the doctor's own, and what it has received.

    Attributes:
        statuses: the last diagnostics of each camera of the node, by name: level, message, values, fates.
    """

    def __init__(self, node: str) -> None:
        self.ros = rclpy.create_node(NAME, use_global_arguments=False)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.ros)
        self._node = node
        self.statuses: dict[str, tuple[int, Status]] = {}
        self._counted: dict[str, dict[str, int]] = {}  # by the node before the watch
        self._running: set[str] = set()
        self._roles: dict[str, dict[str, str]] = {}  # topics by camera and role
        self._messages: dict[str, list[Message]] = {}
        self._names: dict[str, dict[int, str]] = {}
        self._parents: dict[str, str] | None = None
        self._opened = 0.0  # in seconds of the monotonic clock
        self.ros.create_subscription(DiagnosticArray, '/diagnostics', self._take_status, DEPTH)

    def spin(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Receive for some time, or until something has come."""
        end = time.monotonic() + seconds
        while rclpy.ok() and time.monotonic() < end and not until():
            self.executor.spin_once(timeout_sec=0.1)
            self._follow_inputs()

    def open(self) -> None:
        """Subscribe to what the node's cameras take and publish, to the names of the classes, and to tf."""
        self._opened = time.monotonic()
        self._counted = {name: status[2] for name, (_, status) in self.statuses.items()}
        for name, (_, (_, values, _, _)) in self.statuses.items():
            prefix = f'{self._node}/{name}' if name else self._node
            self._roles[name] = {role: output_topic(values, prefix, role) for role in OUTPUTS}
            image = values.get(TOPIC, '')
            if image:
                self._subscribe(
                    name, 'image', image, CompressedImage if image.endswith('/compressed') else Image
                )
            for role, kind in OUTPUTS.items():
                self._subscribe(name, role, self._roles[name][role], kind)
        self.ros.create_subscription(String, f'{self._node}/label_names', self._take_names, LATCHED)
        with suppress(ImportError):
            from vision_msgs.msg import LabelInfo

            self.ros.create_subscription(LabelInfo, f'{self._node}/label_info', self._take_info, LATCHED)
        with suppress(ImportError):
            from tf2_msgs.msg import TFMessage

            self._parents = {}
            for topic, qos in (('/tf', QoSProfile(depth=100)), ('/tf_static', LATCHED)):
                self.ros.create_subscription(TFMessage, topic, self._take_transforms, qos)

    def _subscribe(self, camera: str, role: str, topic: str, kind: type) -> None:
        """Receive a topic as reliably as all its publishers offer it."""
        self._roles[camera][role] = topic
        if topic in self._messages:
            return
        kept = self._messages[topic] = []
        offered = {info.qos_profile.reliability for info in self.ros.get_publishers_info_by_topic(topic)}
        reliable = offered == {ReliabilityPolicy.RELIABLE}
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        qos = QoSProfile(depth=DEPTH, reliability=reliability)

        def take(cdr: bytes) -> None:
            with suppress(FrameError):  # the node counts such messages
                kept.append(_message(cdr, kind))

        self.ros.create_subscription(kind, topic, take, qos, raw=True)

    def _follow_inputs(self) -> None:
        """Subscribe to what the node makes points of: it does so itself only while they are wanted."""
        base, _, name = self._node.rpartition('/')
        try:
            taken = self.ros.get_subscriber_names_and_types_by_node(name, base or '/')
        except NodeNameNonExistentError:
            return
        for topic, types in taken:
            for role, kind in INPUTS.items():
                if topic in self._messages or f'sensor_msgs/msg/{kind.__name__}' not in types:
                    continue
                of = [each for each in self._roles if not each or f'/{each}/' in topic]
                if len(of) == 1 and role not in self._roles[of[0]]:  # of two camera_info, one tells enough
                    self._subscribe(of[0], role, topic, kind)

    # Messages

    def _take_status(self, message: DiagnosticArray) -> None:
        for each in message.status:
            node, _, camera = each.name.partition(': ')
            status = read_status(message, each.name)
            if status is None or 'weights' not in status[1]:
                continue
            self._running.add(node)
            if node == self._node:
                self.statuses['' if camera == 'segmentation' else camera] = each.level[0], status

    def _take_names(self, message: String) -> None:
        with suppress(ValueError, KeyError, TypeError):
            self._names['label_names'] = {c['id']: c['name'] for c in json.loads(message.data)['classes']}

    def _take_info(self, message: Any) -> None:
        self._names['label_info'] = {c.class_id: c.class_name for c in message.class_map}

    def _take_transforms(self, message: Any) -> None:
        assert self._parents is not None
        for each in message.transforms:
            self._parents[each.child_frame_id.lstrip('/')] = each.header.frame_id.lstrip('/')

    # The result

    def facts(self) -> Facts:
        """Return what was seen; asks nodes for their parameters."""
        seconds = time.monotonic() - self._opened
        streams = {
            camera: {role: self._stream(topic, seconds) for role, topic in roles.items()}
            for camera, roles in self._roles.items()
        }
        published = {
            topic: tuple(types)
            for topic, types in self.ros.get_topic_names_and_types()
            if self.ros.count_publishers(topic)
        }
        costmaps = self._costmaps() if self.statuses else {}
        own = self._parameters(self._node, ['use_sim_time', 'points_tolerance']) if self.statuses else {}
        simulated = {
            node: values.get('use_sim_time') for node, values in {self._node: own, **costmaps}.items()
        }
        return Facts(
            node=self._node,
            middleware=rclpy.get_rmw_implementation_identifier(),
            separation=separation(rclpy.get_rmw_implementation_identifier()),
            cameras=tuple(self._camera(name, streams.get(name, {})) for name in sorted(self.statuses)),
            running=tuple(sorted(self._running)),
            topics=published,
            sim_time={node: value for node, value in simulated.items() if isinstance(value, bool)},
            tolerance_ns=max(
                TOLERANCE_NS, round(own.get('points_tolerance', 0) * 1e9)
            ),  # as `pop_pairs` does
            clock='/clock' in published,
            names=self._names.get('label_names'),
            label_info=self._names.get('label_info'),
            latched={
                name: self._stream(f'{self._node}/{name}', seconds) for name in ('label_names', 'label_info')
            },
            costmaps=costmaps,
            parents=self._parents,
            free_bytes=free_bytes(),
            segments=tuple(segment_sizes()),
        )

    def _camera(self, name: str, streams: dict[str, Stream]) -> Camera:
        level, (message, values, fates, _) = self.statuses[name]
        before = self._counted.get(name, {})
        counted = {fate: count - before.get(fate, 0) for fate, count in fates.items()}
        return Camera(name, level, message, values, counted, streams)

    def _stream(self, topic: str, seconds: float) -> Stream:
        ends = (
            self.ros.get_publishers_info_by_topic(topic),
            self.ros.get_subscriptions_info_by_topic(topic),
        )
        publishers, subscribers = (tuple(_endpoint(e) for e in each if e.node_name != NAME) for each in ends)
        return Stream(topic, publishers, subscribers, tuple(self._messages.get(topic, ())), seconds)

    def _costmaps(self) -> dict[str, dict[str, Any]]:
        """Return the parameters of every costmap with a semantic layer."""
        found = {}
        for name, base in self.ros.get_node_names_and_namespaces():
            if 'costmap' not in name:
                continue
            node = f'{base.rstrip("/")}/{name}'
            listed = self._call(ListParameters, f'{node}/list_parameters', ListParameters.Request())
            if listed is not None:
                parameters = self._parameters(node, listed.result.names)
                if layers(parameters):
                    found[node] = parameters
        return found

    def _parameters(self, node: str, names: list[str]) -> dict[str, Any]:
        answer = self._call(GetParameters, f'{node}/get_parameters', GetParameters.Request(names=names))
        if answer is None:
            return {}
        return {name: parameter_value_to_python(value) for name, value in zip(names, answer.values)}

    def _call(self, kind: type, service: str, request: Any) -> Any:
        """Return the answer of a service; None if there is none in time."""
        client = self.ros.create_client(kind, service)
        try:
            self.spin(PATIENCE_S, client.service_is_ready)
            if not client.service_is_ready():
                return None
            future = client.call_async(request)
            self.spin(PATIENCE_S, future.done)
            return future.result() if future.done() else None
        finally:
            self.ros.destroy_client(client)


def _endpoint(info: TopicEndpointInfo) -> Endpoint:
    qos = info.qos_profile
    return Endpoint(
        f'{info.node_namespace.rstrip("/")}/{info.node_name}',
        info.topic_type,
        qos.reliability == ReliabilityPolicy.RELIABLE,
        qos.durability == DurabilityPolicy.TRANSIENT_LOCAL,
    )


def _message(cdr: bytes, kind: type) -> Message:
    """Read the header of a message, and its height and width: 0 where it does not say those of an image."""
    reader = CdrReader(cdr)
    stamp_ns, frame_id = reader.header()
    info = deserialize_message(cdr, CameraInfo) if kind is CameraInfo else None
    told = kind is not CompressedImage and not (info and _is_cut(info))
    size = (reader.u32('height'), reader.u32('width')) if told else (0, 0)
    shift = largest_shift(info) if info else 0.0
    return Message(stamp_ns, frame_id, *size, len(cdr), received_ns=time.time_ns(), shift=shift)


def _is_cut(info: CameraInfo) -> bool:
    """Return whether images have not all the pixels that a camera_info speaks of."""
    return bool(max(info.binning_x, info.binning_y) > 1 or info.roi.height or info.roi.width)
