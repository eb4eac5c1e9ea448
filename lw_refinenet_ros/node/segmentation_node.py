# SPDX-License-Identifier: Apache-2.0
"""The segmentation node: camera images in, label images and overlays out."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from functools import cached_property
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy import get_rmw_implementation_identifier
from rclpy._rclpy_pybind11 import RCLError
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from lw_refinenet_ros.labels import LabelSet
from lw_refinenet_ros.node.camera import Camera
from lw_refinenet_ros.node.candidate import Candidate, Weights, load_candidate, make_segmenter
from lw_refinenet_ros.node.diagnostics import READY, WARMING_UP, build_status
from lw_refinenet_ros.node.enable_service import offer_enable
from lw_refinenet_ros.node.inference_thread import InferenceThread
from lw_refinenet_ros.node.label_info import LabelPublishers
from lw_refinenet_ros.node.model_swap import Model, ModelSwap, Request, State
from lw_refinenet_ros.node.parameter_types import fitting
from lw_refinenet_ros.node.parameters import PARAMETERS, Settings, Values, declare, read_files, refusal
from lw_refinenet_ros.node.process.fast_dds import fitting_profile
from lw_refinenet_ros.node.process.malloc import give_back_freed
from lw_refinenet_ros.node.process.middleware import describe, profile_variables
from lw_refinenet_ros.node.process.parameter_files import ParameterFiles, unknown_name
from lw_refinenet_ros.node.process.ros_context import ros_context
from lw_refinenet_ros.node.statistics import Statistics
from lw_refinenet_ros.node.transitions import refuse_impossible_transitions
from lw_refinenet_ros.one_line import one_line

__all__ = ['SegmentationNode', 'main']

ENGINE_PARAMETERS = ('device', 'engine', 'precision', 'threads')
NAMES = [parameter.name for parameter in PARAMETERS]
MODEL_PARAMETERS = ('weights', 'class_groups', 'overlay_classes', 'mask_classes')
DIAGNOSTICS_PERIOD_S = 1.0
SWITCH_S = 0.00005  # Python's default of 5 ms, some hundred times a frame, stalls it beside a warm-up
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class SegmentationNode(LifecycleNode):  # type: ignore[misc]
    """Subscribes to each camera's `image`, publishes its labels and overlays, and the names of the labels.

    Each image topic has a thread that takes its messages, one more thread owns the network, and the
    executor's thread does everything else.
    """

    def __init__(self) -> None:
        super().__init__('lw_refinenet')
        self._swap = ModelSwap(self.create_guard_condition(self._end_swap).trigger)
        self._inference: InferenceThread | None = None
        self._cameras: list[Camera] = []
        self._label_publishers: LabelPublishers | None = None
        self._fault = ''  # why the node could not be configured
        self._values = self._told = declare(self)  # of all parameters; replaced as a whole
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # The steady clock: simulated time may stop, and its absence is worth reporting.
        self.create_timer(
            DIAGNOSTICS_PERIOD_S, self._supervise, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self.add_on_set_parameters_callback(self._set_parameters)

    @property
    def autostart(self) -> bool:
        """Whether the node configures and activates itself."""
        return bool(self._values['autostart'])

    # Lifecycle: each transition undoes its opposite completely.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the weights and create the publishers; compiling is left to the inference thread."""
        try:
            self._fault = self._configure()
        except ValueError as error:
            self._fault = str(error)
        except Exception as error:  # rclpy would swallow it
            self._fault = f'{type(error).__name__}: {error}'
        if self._fault:
            self._fault = one_line(self._fault)
            if self.context.ok():  # else it was interrupted
                self.get_logger().error(f'not configured: {self._fault}')
            self._release()
            return FAILURE
        return super().on_configure(state)

    def _configure(self) -> str:
        """Make everything that an active node needs; return why not, or ''."""
        self._values = Values(self._values | read_files(self._values))
        if fault := refusal(self._values, None):
            return fault
        candidate = load_candidate(self._values['weights'])
        if fault := refusal(self._values, candidate.card.labels):
            return fault
        segmenter = make_segmenter(candidate, self._engine_options())
        self._swap.serving = Model(candidate.weights, segmenter.grouped(self._values['groups']))
        transport = self._values['image_transport']
        for name in self._values['cameras']:
            self._cameras.append(Camera(self, name, transport, self._settings))
        # Not lifecycle publishers: the names are known, and useful, before the node is active.
        self._label_publishers = LabelPublishers(self)
        self._inference = InferenceThread(self._swap.serving, self._settings, self._announce)
        return ''

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the inference thread, then subscribe."""
        result = super().on_activate(state)
        assert self._inference is not None
        self._inference.start()
        allocate = self._inference.allocate
        for camera in self._cameras:
            camera.listen(self._inference.enqueue, self._inference.call, allocate)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop all work."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release the network and destroy the publishers."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop all work and release everything, from any state."""
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ARG002
        """Return to unconfigured, so that the node can be configured again."""
        self._release()
        return SUCCESS

    def destroy_node(self) -> None:
        """End the threads before the node is destroyed."""
        self._release()
        self._swap.close()
        super().destroy_node()

    def _stop(self) -> None:
        for camera in self._cameras:
            camera.stop()
        if self._inference is not None:
            self._inference.stop()

    def _release(self) -> None:
        self._stop()
        for camera in self._cameras:
            camera.close()
        self._cameras.clear()
        if self._inference is not None:
            self._inference.close()
        if self._label_publishers is not None:
            for publisher in self._label_publishers.all:
                self.destroy_publisher(publisher)
        self._label_publishers = self._inference = None
        self._swap.reset()
        give_back_freed()

    def _engine_options(self) -> dict[str, Any]:
        return {name: self._values[name] for name in ENGINE_PARAMETERS}

    # Parameters

    def _settings(self) -> Settings:
        """Return the present values of the parameters that may change while the node runs."""
        return self._values.settings

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> SetParametersResult:
        """Set parameters as rclpy does, but take whole numbers for doubles, and refuse with the remedy."""
        try:
            fitted = [self._fitting(each) for each in parameter_list if not self._is_as_at_the_start(each)]
        except ValueError as error:
            return self._result(str(error))
        return super().set_parameters_atomically(fitted)

    def _is_as_at_the_start(self, parameter: Parameter) -> bool:
        """Whether a read-only parameter is set to the value it has, as in a dump that is loaded again."""
        name = parameter.name
        if not self.has_parameter(name) or not self.describe_parameter(name).read_only:
            return False
        return bool(self.get_parameter(name).value == parameter.value)

    def _fitting(self, parameter: Parameter) -> Parameter:
        name = parameter.name
        if not self.has_parameter(name):
            raise ValueError(f'{unknown_name(name, NAMES)}; there are {", ".join(NAMES)}')
        descriptor = self.describe_parameter(name)
        if descriptor.read_only:
            raise ValueError(
                f'{name} is read at the start only; for {parameter.value!r}, set it in the parameter file or '
                'with -p, and restart the node'
            )
        return fitting(parameter, descriptor)

    def _set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        """Apply a set of changes whole, or refuse it whole with the reason."""
        try:
            reason = self._apply(changes)
        except ValueError as error:
            reason = str(error)
        except Exception as error:  # rclpy would end the node
            reason = f'{type(error).__name__}: {error}'
        return self._result(reason)

    def _result(self, reason: str) -> SetParametersResult:
        if reason:  # logged as well: rqt_reconfigure does not show it
            reason = one_line(reason)
            self.get_logger().warning(f'parameters not changed: {reason}')
        return SetParametersResult(successful=not reason, reason=reason)

    def _apply(self, changes: list[Parameter]) -> str:
        """Apply changes to the parameters, and begin a change of the model; return why not, or ''."""
        given = {p.name: p.value for p in changes}
        values = self._values | given
        values |= read_files(given if self._inference is not None else values)
        is_swap = 'weights' in given and self._swap.state is not State.ROLLING_BACK
        candidate = self._candidate(values['weights']) if is_swap else self._swap.coming
        reason = refusal(values, self._classes(candidate))
        if reason:
            return reason
        if self._inference is None:
            pass  # configuring loads what the parameters name by then
        elif is_swap and candidate is None:
            self._swap.cancel()
        elif candidate is not None and candidate is not self._swap.coming:
            request = Request(candidate, self._engine_options(), self._settings, self._inference.jobs)
            self._swap.begin(request, {name: self._values[name] for name in MODEL_PARAMETERS})
        if self._inference is not None and candidate is None:  # else the model to come is grouped
            self._inference.group(values['groups'])
        self._values = Values(values)
        for camera in self._cameras:
            camera.follow()
        return ''

    def _tell_changes(self) -> None:
        """Log what has changed since the last call: a slider sets more values than anybody reads."""
        for name in NAMES:
            before, now = self._told[name], self._values[name]
            if now != before:
                self.get_logger().info(f'{name}: {one_line(repr(before))} -> {one_line(repr(now))}')
        self._told = self._values

    def _candidate(self, weights: str) -> Candidate | None:
        """Load weights and check them, unless they are coming already; None if they are those that serve."""
        coming, serving, requested = self._swap.coming, self._swap.serving, Weights.of(weights)
        if coming is not None and coming.weights == requested:
            return coming
        return None if serving is not None and serving.weights == requested else load_candidate(weights)

    def _classes(self, candidate: Candidate | None) -> LabelSet | None:
        """Return the classes of a candidate, else of the model that serves, if there is one."""
        if candidate is not None:
            return candidate.card.labels
        return self._swap.serving.segmenter.card.labels if self._swap.serving is not None else None

    def _end_swap(self) -> None:
        """Pass a model that is ready to the inference thread; roll the parameters back if it failed."""
        model = self._swap.finish()
        if model is not None and self._inference is not None:
            model.segmenter = model.segmenter.grouped(self._values['groups'])
            self._inference.serve(model)
        if self._swap.state is not State.FAILED:
            return
        with self._swap.rolling_back() as fallback:
            values = {'weights': fallback['weights']}
            if refusal(self._values | values, self._classes(None)):
                values = fallback
            self.set_parameters_atomically([Parameter(name, value=value) for name, value in values.items()])
        self.get_logger().error(f'{self._swap.fault}; {fallback["weights"]!r} keeps serving')

    def _announce(self, model: Model) -> None:
        """Publish the names of a model's classes, before its first frame."""
        segmenter = model.segmenter
        if self._label_publishers is not None:
            self._label_publishers.publish(segmenter.labels)
        grouped = f' in {len(segmenter.labels.names)} groups' if segmenter.groups else ''
        self.get_logger().info(
            f'{segmenter.card.architecture} with {segmenter.card.num_classes} classes{grouped} '
            f'from {model.weights.name!r} on {segmenter.engine.description}'
        )

    # Diagnostics

    def _supervise(self) -> None:
        """Adapt the subscriptions, log changes and publish the diagnostics, once a second."""
        self._tell_changes()
        for camera in self._cameras:
            camera.follow()
        array = DiagnosticArray(status=list(self._statuses()))
        array.header.stamp = self.get_clock().now().to_msg()
        try:
            self._diagnostics.publish(array)
        except RCLError as error:
            if not self.context.ok():
                raise
            # A reader that hangs leaves no room for them; that must not end the node.
            self.get_logger().warning(f'diagnostics were not sent: {error}', throttle_duration_sec=10.0)

    def _statuses(self) -> Iterable[DiagnosticStatus]:
        """Yield one status for each camera; one as well while there is none."""
        model, coming = self._swap.serving, self._swap.coming
        weights = model.weights.name if model is not None else str(self._values['weights'])
        extra = {'state': self._state, 'weights': weights} | self._middleware
        if coming is not None:
            extra['weights to come'] = coming.weights.name
        if model is not None:
            engine = model.segmenter.engine
            extra |= {'architecture': model.segmenter.card.architecture, 'engine': engine.description}
            extra |= {'device': engine.device, 'precision': engine.precision}
        node = self.get_fully_qualified_name()
        if not self._cameras:
            level, message = self._condition(None)
            yield build_status(f'{node}: segmentation', level, message, Statistics(), extra)
        for camera in self._cameras:
            level, message = self._condition(camera)
            name = f'{node}: {camera.name or "segmentation"}'
            yield build_status(name, level, message, camera.statistics, extra | camera.values())

    @cached_property
    def _middleware(self) -> dict[str, str]:
        name = get_rmw_implementation_identifier()
        return {'middleware': name, 'large images': describe(name, running=True)}

    @property
    def _state(self) -> str:
        if self._inference is None or self._swap.serving is None:
            return 'unconfigured'
        if not self._inference.is_running:
            return 'inactive'
        return WARMING_UP if self._swap.serving.warming_up else 'active'

    def _condition(self, camera: Camera | None) -> tuple[bytes, str]:
        """Return the level and the message of a camera's status: the worst fault there is."""
        model = self._swap.serving
        if fault := self._fault or self._swap.fault or (model.failure if model is not None else ''):
            return DiagnosticStatus.ERROR, fault
        if self._state != 'active' or camera is None:
            return DiagnosticStatus.OK, self._state
        if not self._values['enabled']:
            return DiagnosticStatus.OK, 'disabled'
        warning = camera.warning()
        if warning:
            return DiagnosticStatus.WARN, warning
        idle = f'idle: no output has subscribers, so {camera.topic} is not subscribed to'
        return DiagnosticStatus.OK, idle if camera.is_idle else READY


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted."""
    sys.setswitchinterval(SWITCH_S)
    with ExitStack() as stack:
        stack.enter_context(suppress(KeyboardInterrupt))
        try:
            files = ParameterFiles(sys.argv if args is None else args)
            started = stack.enter_context(ros_context(args))
            with fitting_profile(profile_variables()) as what_was_done:
                node = SegmentationNode()
            warnings = files.check(node.get_fully_qualified_name(), NAMES, node.has_parameter)
        except (ParameterException, ValueError, RCLError) as error:
            if isinstance(error, RCLError) and not rclpy.ok():  # a signal has shut it down
                raise
            sys.exit(f'segmentation_node: {one_line(str(error))}')
        for warning in [*warnings, what_was_done]:
            if warning:
                node.get_logger().warning(warning)
        offer_enable(node)
        refuse_impossible_transitions(node)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        try:
            if node.autostart and node.trigger_configure() == SUCCESS:
                node.trigger_activate()
            started()
            # Searching what the imports made for garbage would stop all threads for 0.1 s.
            gc.freeze()
            executor.spin()
        finally:
            executor.shutdown()
            node.destroy_node()
            gc.unfreeze()
