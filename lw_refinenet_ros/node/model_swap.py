# SPDX-License-Identifier: Apache-2.0
"""The change from the model that serves to another one, which is made ready in a thread of its own."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch

from lw_refinenet_ros.inference.segmenter import Segmenter
from lw_refinenet_ros.model.weights import load_model
from lw_refinenet_ros.resources import find_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lw_refinenet_ros.inference.engine import Job
    from lw_refinenet_ros.model.network import Network
    from lw_refinenet_ros.model.weights import Card
    from lw_refinenet_ros.node.parameters import Settings

__all__ = ['Candidate', 'ModelSwap', 'Request', 'State', 'Weights', 'load_candidate', 'make_segmenter']

NICENESS = 10  # of what is done beside the model that serves
END_S = 0.5  # that the end of the node waits for a compilation, which nothing can interrupt
Result = TypeVar('Result')


class Weights(NamedTuple):
    """A weights file as it was when it was read: overwritten, it is another one."""

    name: str
    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, name: str) -> Weights:
        """Look the file up that the `weights` parameter names.

        Raises:
            ValueError: it does not exist.

        """
        path = find_weights(name)
        try:
            status = path.stat()
        except OSError as error:
            msg = f'{path}: {error.strerror}; give a weights file, or the name of a shipped one'
            raise ValueError(msg) from error
        return cls(name, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Candidate:
    """A weights file whose header, names, shapes and values were found good."""

    weights: Weights
    network: Network
    card: Card


@dataclass(frozen=True)
class Request:
    """What to make ready.

    Attributes:
        candidate: the weights.
        engine: the arguments of `Segmenter.build`: device, engine, precision, threads.
        settings: returns the settings, for the size that the network sees.
        jobs: returns what to compile for; both are called when that begins, as things are by then.

    """

    candidate: Candidate
    engine: dict[str, Any]
    settings: Callable[[], Settings]
    jobs: Callable[[], Sequence[Job]]


class State(Enum):
    """How far a change of the model is.

    From any state a new request leads to COMING, and cancelling to IDLE.
    """

    IDLE = 'idle'  # nothing comes; goes to COMING by `begin`
    COMING = 'coming'  # the thread makes the newest request ready; goes to READY or FAILED
    READY = 'ready'  # the new model waits to be taken; goes to IDLE by `take`
    FAILED = 'failed'  # the parameters have to go back; goes to GOING_BACK by `going_back`
    GOING_BACK = 'going back'  # they are on their way; goes to IDLE


class ModelSwap:
    """Makes the newest requested model ready while the present one serves.

    At most one thread lives. A request that is superseded or cancelled is given up at its next step, and
    nothing of it is kept. All methods are for the executor's thread.

    Args:
        wake: called in the warm-up thread when the state has become READY or FAILED.

    Attributes:
        state: see `State`.
        serving: the weights that were configured or swapped in last; None before that.
        fault: why the last change failed; empty once another one begins.

    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.state = State.IDLE
        self.serving: Weights | None = None
        self.fault = ''
        self._wake = wake
        self._lock = threading.Lock()  # over state, request and result
        self._request: Request | None = None  # the newest; None in IDLE
        self._segmenter: Segmenter | None = None  # of READY
        self._fallback: dict[str, Any] = {}  # parameters that name the model that serves
        self._thread: threading.Thread | None = None

    @property
    def coming(self) -> Candidate | None:
        """The weights that come next, if a change is under way."""
        return self._request.candidate if self._request is not None else None

    def begin(self, request: Request, parameters: dict[str, Any]) -> None:
        """Make a model ready in the background, instead of one that is already coming.

        Args:
            request: what to make ready.
            parameters: those to go back to if that fails; kept from the first of several requests, since
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
        """Give up what is coming; the model that serves goes on."""
        with self._lock:
            self._set(State.IDLE)
        self.fault = ''

    def take(self) -> Segmenter | None:
        """Return the new model in state READY, from now on the serving one; None in any other state."""
        with self._lock:
            if self.state is not State.READY:
                return None
            (segmenter, self._segmenter), request = (self._segmenter, None), self._request
            assert request is not None
            self.serving = request.candidate.weights
            self._set(State.IDLE)
        return segmenter

    @contextmanager
    def going_back(self) -> Iterator[dict[str, Any]]:
        """In state FAILED, hold GOING_BACK while the parameters are set to those that are yielded."""
        with self._lock:
            self._set(State.GOING_BACK)
        try:
            yield self._fallback
        finally:
            with self._lock:
                self._set(State.IDLE)

    def close(self) -> None:
        """Let go of all models; a compilation that takes longer is left to the end of the process."""
        self.cancel()
        self.serving = None
        if (thread := self._thread) is not None:
            thread.join(END_S)

    def _set(self, state: State, request: Request | None = None) -> None:
        if self._segmenter is not None:  # made ready in vain
            self._segmenter.close()
        self.state, self._request, self._segmenter = state, request, None

    # In the warm-up thread

    def _run(self) -> None:
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
        """Make the segmenter and compile it; None if that was given up."""
        # Compiling would leave its niceness to threads that serve later.
        segmenter = _aside(make_segmenter, request.candidate, request.engine)
        for job in request.jobs():  # another model may see the same images at another size
            if self._request is not request:
                segmenter.close()
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
        return segmenter


def load_candidate(weights: str) -> Candidate:
    """Read and check a weights file.

    Raises:
        ValueError: it cannot be used.

    """
    return _aside(_load_candidate, weights)


def make_segmenter(candidate: Candidate, engine: dict[str, Any]) -> Segmenter:
    """Make a segmenter of a candidate; the arguments are those of `Segmenter.build`.

    Raises:
        EngineError: this machine cannot do what was asked for.

    """
    with _one_thread(engine['threads']):
        return Segmenter.build(candidate.network, candidate.card, **engine)


def _aside(function: Callable[..., Result], *arguments: object) -> Result:
    """Return what a function returns or raises in a thread that gives way to the model that serves."""
    with ThreadPoolExecutor(1, initializer=_give_way) as thread:
        return thread.submit(function, *arguments).result()


def _give_way() -> None:
    with suppress(OSError):  # not Linux
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


@contextmanager
def _one_thread(afterwards: int = 0) -> Iterator[None]:
    """Keep PyTorch to this thread: its others spin while they wait, beside the model that serves.

    Args:
        afterwards: PyTorch's threads; 0 is as before.

    """
    afterwards = afterwards or torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(afterwards)


@_one_thread()
def _load_candidate(weights: str) -> Candidate:
    read = Weights.of(weights)
    network, card = load_model(weights)
    return Candidate(read, network, card)
