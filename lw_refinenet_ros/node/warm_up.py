# SPDX-License-Identifier: Apache-2.0
"""Another model made ready in a thread of its own, while the present one serves."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from lw_refinenet_ros.image.labels import LabelSet
from lw_refinenet_ros.inference.choice import make_engine
from lw_refinenet_ros.inference.segmenter import Segmenter, find_weights
from lw_refinenet_ros.model.weights import load_model

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from lw_refinenet_ros.inference.engine import Job
    from lw_refinenet_ros.model.network import Network
    from lw_refinenet_ros.model.weights import Card
    from lw_refinenet_ros.node.parameters import Settings

__all__ = ['Candidate', 'WarmUp', 'load_candidate', 'make_segmenter']

NICENESS = 10  # of what is done beside the model that serves
Result = TypeVar('Result')


@dataclass(frozen=True)
class Candidate:
    """A weights file that was found good: header, names, shapes and values.

    Attributes:
        weights: the file, as the parameter names it.
        labels: names and colours of its classes.

    """

    weights: str
    network: Network
    card: Card
    labels: LabelSet


def _aside(function: Callable[..., Result], *arguments: object) -> Result:
    """Run a function in a thread that gives way to the model that serves; its result or error is given."""
    with ThreadPoolExecutor(1, initializer=_give_way) as thread:
        return thread.submit(function, *arguments).result()


def _give_way() -> None:
    with suppress(OSError):  # not Linux
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep PyTorch to this thread: its others spin while they wait, beside the model that serves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def load_candidate(weights: str) -> Candidate:
    """Read and check a weights file.

    Raises:
        ValueError: it cannot be used.

    """
    return _aside(_load_candidate, weights)


@_one_thread()
def _load_candidate(weights: str) -> Candidate:
    network, card = load_model(find_weights(weights))
    try:
        labels = LabelSet.from_dict(card.labels)
    except ValueError as error:
        msg = f'{weights}: {error}'
        raise ValueError(msg) from error
    return Candidate(weights, network, card, labels)


def make_segmenter(candidate: Candidate, engine: dict[str, Any]) -> Segmenter:
    """Give the candidate an engine; the arguments are those of `make_engine`.

    Raises:
        EngineError: this machine cannot do what was asked for.

    """
    return Segmenter(make_engine(candidate.network, candidate.card, **engine), candidate.card)


class WarmUp:
    """Makes a segmenter of a candidate and compiles it.

    Args:
        candidate: the weights.
        engine: the arguments of `make_engine`: device, engine, precision, threads.
        settings: the size that the network sees is there.
        jobs: what to compile for, as the present model has it.
        done: called in this thread at the end.
        after: a thread to wait for: one warm-up at a time is enough beside the serving model.

    Attributes:
        weights: the file, as the parameter names it.
        labels: names and colours of its classes.
        segmenter: the result; None until the end, and if it failed.
        error: why it failed, else empty.
        thread: that does it; compiling cannot be interrupted.

    """

    def __init__(
        self,
        candidate: Candidate,
        engine: dict[str, Any],
        settings: Settings,
        jobs: Collection[Job],
        done: Callable[[], None],
        after: threading.Thread | None,
    ) -> None:
        self.weights, self.labels = candidate.weights, candidate.labels
        self.segmenter: Segmenter | None = None
        self.error = ''
        arguments = (candidate, engine, settings, jobs, done, after)
        self.thread = threading.Thread(target=self._run, args=arguments, name='warm-up', daemon=True)
        self.thread.start()

    @property
    def done(self) -> bool:
        """Whether the result is there."""
        return self.segmenter is not None or bool(self.error)

    def _run(
        self,
        candidate: Candidate,
        options: dict[str, Any],
        settings: Settings,
        jobs: Collection[Job],
        done: Callable[[], None],
        after: threading.Thread | None,
    ) -> None:
        if after is not None:
            after.join()
        try:
            # Compiling would leave its niceness to threads that serve later.
            segmenter = _aside(make_segmenter, candidate, options)
            for job in jobs:  # another model may see the same images at another size
                segmenter.network_size = settings.network_size(*job.image_size)
                segmenter.prepare(job.image_size, order=job.order, confidence=job.confidence, batch=job.batch)
            self.segmenter = segmenter
        except Exception as error:  # whatever it is, the present model goes on
            self.error = f'{type(error).__name__}: {error}'
        finally:
            done()
