# SPDX-License-Identifier: Apache-2.0
"""Runs the real node in its own process and talks to it over DDS."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from array import array
from typing import TYPE_CHECKING

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters, SetParametersAtomically
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_msgs.msg import String

from lw_refinenet_ros.cli.live import die_with_parent, ros_environment
from lw_refinenet_ros.node.diagnostics import read_status

if TYPE_CHECKING:
    from pathlib import Path

    from rcl_interfaces.msg import ParameterValue

PATIENCE_S = 60.0  # a busy machine takes half of it to start the node
os.environ.update(ros_environment())


class NodeProcess:
    """The node's process and a client of it, both ended by `close`.

    `program` is Python that runs the node, for faults that nothing else brings about; `remap` a rule.
    """

    def __init__(
        self,
        *,
        reliable: bool = True,
        program: str = '',
        remap: str = '',
        parameter_file: Path | None = None,
        **parameters: object,
    ) -> None:
        run = ['-c', program] if program else ['-m', 'lw_refinenet_ros.node.main']
        command = [sys.executable, *run, '--ros-args', *(['-r', remap] if remap else [])]
        command += ['--params-file', str(parameter_file)] if parameter_file else []
        for name, value in parameters.items():
            command += ['-p', f'{name}:={json.dumps(value) if not isinstance(value, str) else value}']
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=die_with_parent,  # a fixture that fails half-way closes nothing
        )
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.client = rclpy.create_node('test_client', context=self.context, use_global_arguments=False)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.client)
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        self.qos = QoSProfile(depth=1, reliability=reliability)
        self.images = self.client.create_publisher(Image, 'image', self.qos)
        self.received: dict[str, list] = {}
        self.level, self.status, self.camera_status = b'', None, {}
        self.status_s = 0  # the node's clock when it said so
        self.client.create_subscription(DiagnosticArray, '/diagnostics', self._read_status, 10)

    def _read_status(self, message: DiagnosticArray) -> None:
        self.status_s = message.header.stamp.sec
        for status in message.status:
            if status.name.startswith('/lw_refinenet: '):
                read = read_status(message, status.name)
                self.camera_status[status.name.removeprefix('/lw_refinenet: ')] = read
                self.level, self.status = status.level, read

    def listen(self, *topics: str) -> None:
        for topic in topics:
            kept = self.received[topic] = []
            latched = topic == 'label_names'
            kinds = {'label_names': String, 'compressed': CompressedImage, 'points': PointCloud2}
            kind = kinds.get(topic.rsplit('/', 1)[-1], Image)
            durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
            qos = QoSProfile(depth=20, durability=durability)
            self.client.create_subscription(kind, f'/lw_refinenet/{topic}', kept.append, qos)

    def spin_until(self, condition, what: str, patience_s: float = PATIENCE_S):
        end = time.monotonic() + patience_s
        while not (result := condition()):
            assert self.process.poll() is None, f'the node died: {self.process.stdout.read()}'
            assert time.monotonic() < end, f'no {what} within {patience_s} s; status {self.status}'
            self.executor.spin_once(timeout_sec=0.05)
        return result

    def wait_active(self) -> None:
        """Wait until the node is active, and where its outputs have listeners, subscribed as is published."""
        self.spin_until(lambda: self.status and self.status[1]['state'] == 'active', 'active node')
        if not self.received.keys() - {'label_names'}:
            return
        self.spin_until(self.images.get_subscription_count, 'subscription')
        wanted = self.images.qos_profile.reliability

        def settled() -> bool:
            infos = self.client.get_subscriptions_info_by_topic(self.images.topic_name)
            return {info.qos_profile.reliability for info in infos} == {wanted}

        self.spin_until(settled, 'subscription as reliable as the publisher')

    def send(
        self,
        image: np.ndarray,
        *,
        stamp_ns: int = 0,
        encoding: str = 'rgb8',
        publisher=None,
        **fields: object,
    ) -> None:
        message = Image(height=image.shape[0], width=image.shape[1], encoding=encoding)
        message.step = image.strides[0]
        message.data = array('B', image.tobytes())
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
        message.header.frame_id = 'camera_optical'
        for name, value in fields.items():
            setattr(message, name, value)
        (publisher or self.images).publish(message)

    def answer(self, topic: str, image: np.ndarray, stamp_ns: int, **fields: object) -> Image:
        """Send a frame until its result is there: the first may come before both sides are matched."""
        kept = self.received[topic]
        camera = fields.get('publisher') or self.images
        self.spin_until(camera.get_subscription_count, 'subscription to the camera')

        def result():
            return next((m for m in kept if stamp_of(m) == stamp_ns), None)

        end = time.monotonic() + PATIENCE_S
        while result() is None and time.monotonic() < end:
            self.send(image, stamp_ns=stamp_ns, **fields)
            again = time.monotonic() + 2
            while result() is None and time.monotonic() < again:
                self.executor.spin_once(timeout_sec=0.05)
        return self.spin_until(result, f'{topic} of stamp {stamp_ns}', 1.0)

    def call(self, kind: type, service: str, request: object):
        client = self.client.create_client(kind, f'/lw_refinenet/{service}')
        self.spin_until(client.service_is_ready, service)
        future = client.call_async(request)
        self.spin_until(future.done, f'answer of {service}')
        self.client.destroy_client(client)
        return future.result()

    def set(self, **values: object):
        parameters = [Parameter(n, value=v).to_parameter_msg() for n, v in values.items()]
        request = SetParameters.Request(parameters=parameters)
        return self.call(SetParameters, 'set_parameters', request).results

    def set_atomically(self, **values: object):
        parameters = [Parameter(n, value=v).to_parameter_msg() for n, v in values.items()]
        request = SetParametersAtomically.Request(parameters=parameters)
        return self.call(SetParametersAtomically, 'set_parameters_atomically', request).result

    def get(self, *names: str) -> list[ParameterValue]:
        return self.call(GetParameters, 'get_parameters', GetParameters.Request(names=list(names))).values

    def describe(self, *names: str):
        request = DescribeParameters.Request(names=list(names))
        return self.call(DescribeParameters, 'describe_parameters', request).descriptors

    def transition(self, label: str) -> bool:
        request = ChangeState.Request()
        request.transition.label = label
        return self.call(ChangeState, 'change_state', request).success

    def state(self) -> str:
        return self.call(GetState, 'get_state', GetState.Request()).current_state.label

    def stop(self, number: signal.Signals) -> tuple[int, float, str]:
        """Signal the node; return its exit status, the seconds until it ended and its output."""
        started = time.monotonic()
        self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, time.monotonic() - started, output

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        self.executor.shutdown()
        self.client.destroy_node()
        rclpy.try_shutdown(context=self.context)


def stamp_of(message: Image) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def pixels_of(message: Image) -> np.ndarray:
    array = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, -1)
    return array[..., 0] if message.encoding == 'mono8' else array


__all__ = ['NodeProcess', 'pixels_of', 'stamp_of']
