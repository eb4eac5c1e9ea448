# SPDX-License-Identifier: Apache-2.0
"""Weights that may serve next: read and checked, but not yet on an engine."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch

from lw_refinenet_ros.inference.segmenter import Segmenter
from lw_refinenet_ros.model.network import Network
from lw_refinenet_ros.model.weights import Card, load_model
from lw_refinenet_ros.process_wide import ProcessWide
from lw_refinenet_ros.resources import find_weights

__all__ = ['Candidate', 'Weights', 'give_way', 'load_candidate', 'make_segmenter']

NICENESS = 10  # of work beside the model that serves


class Weights(NamedTuple):
    """A weights file as it was when it was read: overwritten, it is another one."""

    name: str
    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, name: str) -> Weights:
        """Look up the file that the `weights` parameter names.

        Raises:
            ValueError: it does not exist.
        """
        with _named():
            path = find_weights(name)
            try:
                status = path.stat()
            except OSError as error:
                raise ValueError(f'{path}: {error.strerror}; name a file, or shipped weights') from error
        return cls(name, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Candidate:
    """A weights file whose header, names, shapes and values are valid."""

    weights: Weights
    network: Network
    card: Card


def load_candidate(weights: str) -> Candidate:
    """Read and check a weights file.

    Raises:
        ValueError: it cannot be used.
    """
    with ThreadPoolExecutor(1, initializer=give_way) as thread:
        return thread.submit(_load_candidate, weights).result()


def make_segmenter(candidate: Candidate, engine: dict[str, Any]) -> Segmenter:
    """Put a candidate on an engine; the arguments are those of `Segmenter.build`.

    Raises:
        EngineError: this machine cannot run the requested engine.
    """
    with one_thread:
        segmenter = Segmenter.build(candidate.network, candidate.card, **engine)
    if threads := engine['threads']:
        torch.set_num_threads(threads)
    return segmenter


def give_way() -> None:
    """Lower the priority of this thread and of those that it starts: the model that serves keeps its pace."""
    with suppress(OSError):  # not Linux
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


@contextmanager
def _named() -> Iterator[None]:
    """Put the parameter's name before an error's message."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f'weights: {error}') from error


def _use_one_thread() -> Callable[[], object]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    return partial(torch.set_num_threads, before)


# PyTorch's other threads spin while they wait, beside the model that serves.
one_thread = ProcessWide(_use_one_thread)


def _load_candidate(weights: str) -> Candidate:
    read = Weights.of(weights)
    with one_thread, _named():
        network, card = load_model(weights)
    return Candidate(read, network, card)
