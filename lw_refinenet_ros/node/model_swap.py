# SPDX-License-Identifier: Apache-2.0
"""The model that serves, and the change to another one, which is made ready in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

from lw_refinenet_ros.inference.engine import Job
from lw_refinenet_ros.inference.segmenter import Segmenter
from lw_refinenet_ros.node.candidate import Candidate, Weights, give_way, make_segmenter
from lw_refinenet_ros.node.parameters import Settings

__all__ = ['Model', 'ModelSwap', 'Request', 'State']

END_S = 0.5  # that the end of the node waits for a compilation, which nothing can interrupt


@dataclass(eq=False)
class Model:
    """A model and its condition."""

    weights: Weights  # its file
    segmenter: Segmenter  # used by the inference thread only, but for its constants
    warming_up: bool = False  # whether a graph is being compiled before it can serve
    failure: str = ''  # what went wrong at the last attempt; empty once it succeeds again


@dataclass(frozen=True)
class Request:
    """Describes the model to make ready."""

    candidate: Candidate  # the weights
    engine: dict[str, Any]  # the arguments of `Segmenter.build`: device, engine, precision, threads
    settings: Callable[[], Settings]  # returns the settings, for the size that the network sees
    jobs: Callable[[], Sequence[Job]]  # returns the jobs to compile; called, as `settings`, just before


class State(Enum):
    """The progress of a change of the model.

    From any state a new request leads to COMING, and cancelling to IDLE.
    """

    IDLE = 'idle'  # nothing comes; goes to COMING by `begin`
    COMING = 'coming'  # the thread makes the newest request ready; goes to READY or FAILED
    READY = 'ready'  # the new model waits; goes to IDLE by `finish`
    FAILED = 'failed'  # the parameters have to be rolled back; goes to ROLLING_BACK by `rolling_back`
    ROLLING_BACK = 'rolling back'  # they are being rolled back; goes to IDLE


class ModelSwap:
    """Knows the model that serves, and makes the newest requested one ready beside it.

    At most one thread lives. A request that is superseded or cancelled is given up at its next step, and
    nothing of it is kept. All methods are for the executor's thread.

    Args:
        wake: called in the warm-up thread when the state has become READY or FAILED.

    Attributes:
        state: see `State`.
        serving: the model that was configured or swapped in last; None before that.
        fault: why the last change failed; empty once another one begins.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.state = State.IDLE
        self.serving: Model | None = None
        self.fault = ''
        self._wake = wake
        self._lock = threading.Lock()  # over state, request and result
        self._request: Request | None = None  # the newest; None in IDLE
        self._segmenter: Segmenter | None = None  # of READY
        self._fallback: dict[str, Any] = {}  # parameters that name the model that serves
        self._thread: threading.Thread | None = None

    @property
    def coming(self) -> Candidate | None:
        """The weights that are to serve next, None if no change is under way."""
        return self._request.candidate if self._request is not None else None

    def begin(self, request: Request, parameters: dict[str, Any]) -> None:
        """Make a model ready in the background, in place of one that is already coming.

        Args:
            request: the model.
            parameters: those to roll back to if that fails; kept from the first of several requests, since
                only before that do they name the model that serves.
        """
        with self._lock:
            if self.state is State.IDLE:
                self._fallback = parameters
            self._set(State.COMING, request)
            self.fault = ''
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name='warm-up', daemon=True)
                self._thread.start()

    def cancel(self) -> None:
        """Give up the model that is coming; the present one goes on."""
        with self._lock:
            self._set(State.IDLE)
        self.fault = ''

    def finish(self) -> Model | None:
        """Return the new model in state READY, from now on the serving one; None in any other state."""
        with self._lock:
            if self.state is not State.READY:
                return None
            (segmenter, self._segmenter), request = (self._segmenter, None), self._request
            assert request is not None
            assert segmenter is not None
            self.serving = Model(request.candidate.weights, segmenter)
            self._set(State.IDLE)
        return self.serving

    @contextmanager
    def rolling_back(self) -> Iterator[dict[str, Any]]:
        """In state FAILED, hold ROLLING_BACK while the parameters are set to those that are yielded."""
        with self._lock:
            self._set(State.ROLLING_BACK)
        try:
            yield self._fallback
        finally:
            with self._lock:
                self._set(State.IDLE)

    def reset(self) -> None:
        """Forget all models."""
        self.cancel()
        self.serving = None

    def close(self) -> None:
        """Forget all models; a compilation that takes longer is left to the end of the process."""
        self.reset()
        if (thread := self._thread) is not None:
            thread.join(END_S)

    def _set(self, state: State, request: Request | None = None) -> None:
        if self._segmenter is not None:  # never to serve
            self._segmenter.close()
        self.state, self._request, self._segmenter = state, request, None

    # In the warm-up thread

    def _run(self) -> None:
        give_way()  # OpenVINO serves with threads that the first model started, before this one
        while True:
            with self._lock:
                request = self._request
                if self.state is not State.COMING or request is None:
                    self._thread = None
                    return
            self._make_ready(request)

    def _make_ready(self, request: Request) -> None:
        segmenter, fault = None, ''
        try:
            segmenter = self._warm(request)
        except Exception as error:  # whatever it is, the present model goes on
            name = request.candidate.weights.name
            fault = f'weights {name!r} failed to warm up: {type(error).__name__}: {error}'
        with self._lock:
            if self._request is not request:  # superseded or cancelled
                if segmenter is not None:
                    segmenter.close()
                return
            self.state, self._segmenter = State.FAILED if fault else State.READY, segmenter
            self.fault = fault
            self._wake()

    def _warm(self, request: Request) -> Segmenter | None:
        """Make the segmenter and compile it; None if the request was given up."""
        with ExitStack() as stack:
            segmenter = make_segmenter(request.candidate, request.engine)
            stack.callback(segmenter.close)  # unless it is returned
            for job in request.jobs():  # another model may see the same images at another size
                if self._request is not request:
                    return None
                segmenter.prepare(
                    segmenter.job(
                        job.image_size,
                        job.order,
                        network_size=request.settings().network_size,
                        confidence=job.confidence,
                        batch=job.batch,
                    )
                )
            stack.pop_all()
        return segmenter
