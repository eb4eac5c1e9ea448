# SPDX-License-Identifier: Apache-2.0
"""The segmentation node: camera images in, label images and overlays out."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy._rclpy_pybind11 import RCLError
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image
from std_msgs.msg import String

from lw_refinenet_ros.image.encodings import pixels
from lw_refinenet_ros.image.frame import FrameError, parse_image
from lw_refinenet_ros.image.labels import UNLABELLED
from lw_refinenet_ros.inference.segmenter import Segmenter
from lw_refinenet_ros.node.diagnostics import READY, WARMING_UP, build_status
from lw_refinenet_ros.node.memory import keep_large_allocations
from lw_refinenet_ros.node.outputs import ImageOutput, header_of
from lw_refinenet_ros.node.parameters import Settings, declare, refusal
from lw_refinenet_ros.node.statistics import STAGES, Statistics
from lw_refinenet_ros.node.worker import NewestWorker

if TYPE_CHECKING:
    from rclpy.parameter import Parameter
    from rclpy.subscription import Subscription

__all__ = ['SegmentationNode', 'main']

OUTPUTS = {'label': 'mono8', 'confidence': 'mono8', 'color': 'rgb8', 'overlay': 'rgb8'}
OF_SEGMENTER = ('weights', 'device', 'engine', 'precision', 'threads')  # parameters of it
DIAGNOSTICS_PERIOD_S = 1.0
SILENCE_S = 2.0  # without a frame from a matched publisher is worth a warning
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


@dataclass(frozen=True)
class Arrival:
    """A serialized image and when it came, in seconds of the monotonic clock."""

    cdr: bytes
    received: float


class SegmentationNode(LifecycleNode):  # type: ignore[misc]
    """Subscribes to `image`, publishes `~/label`, `~/confidence`, `~/color`, `~/overlay` and `~/label_names`.

    The executor's thread only takes messages; one other thread owns the network.
    """

    def __init__(self) -> None:
        super().__init__('lw_refinenet')
        self._values = declare(self)
        self._settings = Settings.from_values(self._values)
        self._segmenter: Segmenter | None = None
        self._outputs: dict[str, ImageOutput] = {}
        self._publishers_made: list[Any] = []
        self._subscription: Subscription | None = None
        self._worker: NewestWorker[Arrival] | None = None
        self._statistics = Statistics()
        self._fault = ''  # why the node does not run, until it does
        self._warming_up = False
        self._last_sequence: dict[str, int] = {}
        self._next_due = 0.0  # when max_rate lets the next frame in, monotonic seconds
        self._listening_since = 0.0  # monotonic seconds
        self._seen: tuple[object, ...] | None = None  # what the last frame's graph was compiled for
        self._complaint: str | None = None  # of the last second's worst frame
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # The steady clock: simulated time may stop, and its absence is worth reporting.
        self.create_timer(
            DIAGNOSTICS_PERIOD_S, self._supervise, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self.add_on_set_parameters_callback(self._take_parameters)

    @property
    def autostart(self) -> bool:
        """Whether the node configures and activates itself."""
        return bool(self._values['autostart'])

    # Lifecycle: each transition leaves nothing of what its opposite made.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the weights and make the publishers; compiling is left to the inference thread."""
        try:
            segmenter = Segmenter.load(**{name: self._values[name] for name in OF_SEGMENTER})
            self._fault = refusal(self._values, segmenter.labels.names)
        except ValueError as error:
            self._fault = str(error)
        except Exception as error:  # rclpy would swallow it
            self._fault = f'{type(error).__name__}: {error}'
        if self._fault:
            self.get_logger().error(f'not configured: {self._fault}')
            return FAILURE
        self._segmenter = segmenter
        overrides = QoSOverridingOptions.with_default_policies()
        for name, encoding in OUTPUTS.items():
            publisher = self.create_lifecycle_publisher(
                Image, f'~/{name}', _qos(ReliabilityPolicy.RELIABLE), qos_overriding_options=overrides
            )
            self._publishers_made.append(publisher)
            self._outputs[name] = ImageOutput(publisher, encoding)
        latched = _qos(ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)
        # Not a lifecycle publisher: the names are known, and useful, before the node is active.
        names = self.create_publisher(String, '~/label_names', latched)
        self._publishers_made.append(names)
        names.publish(String(data=json.dumps(_label_names(segmenter))))
        card = segmenter.card
        self.get_logger().info(
            f'{card.architecture} with {card.num_classes} classes from {self._values["weights"]!r} '
            f'on {segmenter.engine.description}'
        )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the inference thread, then listen."""
        result = super().on_activate(state)
        self._worker = NewestWorker(self._segment)
        size = self._settings.network_size
        if size is not None:
            self._warming_up = True
            self._worker.call(lambda: self._prepare(size))
        self._subscribe(ReliabilityPolicy.BEST_EFFORT)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop all work."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the network and the publishers."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and let go, from any state."""
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ARG002
        """Go back to unconfigured, so that the node can be configured again."""
        self._release()
        return SUCCESS

    def destroy_node(self) -> None:
        """End the inference thread before the node goes."""
        self._release()
        super().destroy_node()

    def _stop(self) -> None:
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
            self._subscription = None
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def _release(self) -> None:
        self._stop()
        for publisher in self._publishers_made:
            self._managed_entities.discard(publisher)
            self.destroy_publisher(publisher)
        self._publishers_made.clear()
        self._outputs.clear()
        self._segmenter = None

    # In the executor's thread

    def _subscribe(self, reliability: ReliabilityPolicy) -> None:
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
        self._last_sequence.clear()
        self._listening_since = time.monotonic()
        self._subscription = self.create_subscription(
            Image, 'image', self._receive, _qos(reliability), raw=True
        )

    def _receive(self, cdr: bytes, info: dict[str, Any]) -> None:
        """Hand the newest frame over; nothing else happens here."""
        now = time.monotonic()
        self._statistics.count('received')
        self._count_lost(info)
        if self._worker is None:
            return
        if not self._settings.enabled:
            self._statistics.count('disabled')
            return
        if self._settings.max_rate > 0:
            if now < self._next_due:
                self._statistics.count('skipped')
                return
            self._next_due = (
                max(self._next_due, now - 1 / self._settings.max_rate) + 1 / self._settings.max_rate
            )
        if self._worker.offer(Arrival(cdr, now)) is not None:
            self._statistics.count(WARMING_UP if self._warming_up else 'superseded')

    def _count_lost(self, info: dict[str, Any]) -> None:
        """Count the gaps in each publisher's sequence numbers, where the middleware gives them."""
        sequence = info.get('publication_sequence_number')
        if sequence is None:
            return
        publisher = str(info.get('publisher_gid'))
        last = self._last_sequence.get(publisher, sequence - 1)
        if sequence > last + 1:
            self._statistics.count('lost', sequence - last - 1)
        self._last_sequence[publisher] = sequence

    def _take_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        values = self._values | {p.name: p.value for p in changes}
        labels = self._segmenter.labels.names if self._segmenter else None
        reason = refusal(values, labels)
        if reason:
            return SetParametersResult(successful=False, reason=reason)
        self._values = values
        self._settings = Settings.from_values(values)
        return SetParametersResult(successful=True)

    def _supervise(self) -> None:
        """Once a second: follow the publishers' reliability and publish the diagnostics."""
        self._follow_publishers()
        level, message = self._condition()
        extra = {'state': self._state, 'weights': str(self._values['weights'])}
        if self._subscription is not None:
            extra['topic'] = self._subscription.topic_name
        if self._segmenter is not None:
            engine = self._segmenter.engine
            extra |= {'architecture': self._segmenter.card.architecture, 'engine': engine.description}
            extra |= {'device': engine.device, 'precision': engine.precision}
        name = f'{self.get_fully_qualified_name()}: segmentation'
        array = DiagnosticArray(status=[build_status(name, level, message, self._statistics, extra)])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

    def _follow_publishers(self) -> None:
        """Ask for reliable transport where every publisher offers it: only then is no large image lost."""
        if self._subscription is None:
            return
        publishers = self.get_publishers_info_by_topic(self._subscription.topic_name)
        offered = {publisher.qos_profile.reliability for publisher in publishers}
        all_reliable = offered == {ReliabilityPolicy.RELIABLE}
        wanted = ReliabilityPolicy.RELIABLE if all_reliable else ReliabilityPolicy.BEST_EFFORT
        if offered and wanted != self._subscription.qos_profile.reliability:
            self._subscribe(wanted)

    @property
    def _state(self) -> str:
        if self._segmenter is None:
            return 'unconfigured'
        if self._worker is None:
            return 'inactive'
        return WARMING_UP if self._warming_up else 'active'

    def _condition(self) -> tuple[bytes, str]:
        """Say in one line how the node is, the worst first."""
        if self._fault:
            return DiagnosticStatus.ERROR, self._fault
        if self._state != 'active' or self._subscription is None:
            return DiagnosticStatus.OK, self._state
        if not self._settings.enabled:
            return DiagnosticStatus.OK, 'disabled'
        if self._complaint is not None:
            complaint, self._complaint = self._complaint, None
            return DiagnosticStatus.WARN, complaint
        topic = self._subscription.topic_name
        if not self.count_publishers(topic):
            return DiagnosticStatus.WARN, f'nobody publishes {topic}'
        if time.monotonic() - max(self._statistics.last_received, self._listening_since) > SILENCE_S:
            return DiagnosticStatus.WARN, (
                f'no frame for {SILENCE_S:.0f} s though {topic} has a publisher: if its images are large, '
                'give both processes the Fast DDS profile config/fastdds_large_images.xml'
            )
        return DiagnosticStatus.OK, READY

    # In the inference thread

    def _prepare(self, size: tuple[int, int]) -> None:
        """Compile for images of the network's own size, before the first frame tells theirs."""
        if self._segmenter is not None:
            self._segmenter.network_size = self._settings.network_size
            self._segmenter.prepare(size)
        self._warming_up = False

    def _segment(self, arrival: Arrival) -> None:
        """Segment one frame and publish what is wanted of it; a bad frame costs only itself."""
        try:
            self._segment_or_raise(arrival)
        except FrameError as error:
            self._statistics.count(f'bad: {error.reason}')
            self._complain(f'frame dropped: {error}')
        except Exception as error:
            if rclpy.ok():
                self._statistics.count('failed')
                self._complain(f'frame dropped: {type(error).__name__}: {error}')
        finally:
            self._warming_up = False

    def _complain(self, text: str) -> None:
        self._complaint = text
        self.get_logger().warning(text, throttle_duration_sec=1.0)

    def _segment_or_raise(self, arrival: Arrival) -> None:
        started = time.monotonic()
        outputs = self._outputs
        wanted = {name for name, output in outputs.items() if output.wanted}
        if not wanted or self._segmenter is None:
            self._statistics.count('unwatched')
            return
        settings, segmenter = self._settings, self._segmenter
        frame = parse_image(arrival.cdr)
        image, order = pixels(frame)
        viewed = time.monotonic()
        size = (frame.height, frame.width)
        confidence = 'confidence' in wanted or settings.min_confidence > 0
        segmenter.network_size = settings.network_size
        seen = (size, frame.encoding, settings.network_size, confidence)
        if self._seen != seen:
            height, width = settings.network_size or size
            at = f'segmented at {width}x{height}'
            self.get_logger().info(f'images are {frame.width}x{frame.height} {frame.encoding}, {at}')
            self._seen = seen
            self._warming_up = True
            segmenter.prepare(size, order=order, confidence=confidence)
            self._warming_up = False
        result = segmenter.segment(
            image, order=order, confidence=confidence, out=outputs['label'].pixels(*size)
        )
        if result.confidence is not None and settings.min_confidence > 0:
            result.label[result.confidence < settings.min_confidence * 255] = UNLABELLED
        inferred = time.monotonic()
        header = header_of(frame)
        if 'label' in wanted:
            outputs['label'].publish(header)
        if 'confidence' in wanted and result.confidence is not None:
            np.copyto(outputs['confidence'].pixels(*size), result.confidence)
            outputs['confidence'].publish(header)
        if 'color' in wanted:
            result.color(out=outputs['color'].pixels(*size))
            outputs['color'].publish(header)
        if 'overlay' in wanted:
            result.overlay(
                settings.overlay_alpha, settings.overlay_classes or None, out=outputs['overlay'].pixels(*size)
            )
            outputs['overlay'].publish(header)
        published = time.monotonic()
        times = (arrival.received, started, viewed, inferred, published)
        stages = [(b - a) * 1e3 for a, b in itertools.pairwise(times)]
        self._statistics.segmented(dict(zip(STAGES, [*stages, (published - arrival.received) * 1e3])))


def _qos(
    reliability: ReliabilityPolicy, durability: DurabilityPolicy = DurabilityPolicy.VOLATILE
) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=1, reliability=reliability, durability=durability
    )


def _label_names(segmenter: Segmenter) -> dict[str, Any]:
    """Name and colour every id, the unlabelled too."""
    classes = [
        {'id': i, 'name': name, 'color': list(color)}
        for i, (name, color) in enumerate(zip(segmenter.labels.names, segmenter.labels.colors))
    ]
    return {
        'name': segmenter.labels.name,
        'classes': [*classes, {'id': UNLABELLED, 'name': 'unlabelled', 'color': [0, 0, 0]}],
    }


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    keep_large_allocations()
    rclpy.init(args=args)
    try:
        node = SegmentationNode()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        try:
            if node.autostart and node.trigger_configure() == SUCCESS:
                node.trigger_activate()
            executor.spin()
        finally:
            executor.shutdown()
            node.destroy_node()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except RCLError:
        if rclpy.ok():  # else a signal ended the context while the executor was about to wait
            raise
    finally:
        rclpy.try_shutdown()


if __name__ == '__main__':
    main()
