# SPDX-License-Identifier: Apache-2.0
"""The records of a replay through the running node: ages and missing results by stamp."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ['Arrival', 'LiveRun', 'Published', 'ages', 'lost', 'misses']


@dataclass(frozen=True)
class Published:
    """A frame the player sent: its own stamp; by the monotonic clock, when it was due and when sent.

    A frame is refused if the sender's middleware has no room for it.
    """

    stamp_ns: int
    due_ns: int
    sent_ns: int
    refused: bool = False


@dataclass(frozen=True)
class Arrival:
    """A label the recorder got: the frame's stamp; by the monotonic clock, when it arrived."""

    stamp_ns: int
    arrival_ns: int


@dataclass(frozen=True)
class LiveRun:
    """The records of a replay, each written by the process in which it happened."""

    published: Sequence[Published]  # by the player, in the order of sending
    results: Sequence[Arrival]  # by the recorder, one per label
    # By the node, frames by fate: 'received', 'segmented', 'superseded', 'lost', and whatever else it counts
    # ('warming up', 'skipped', 'bad: …')
    counters: Mapping[str, int]
    # By the node, percentiles 'p50', 'p95', 'p99' of each stage's latency; 'total' runs from the frame's
    # callback to the publishing of its label
    stages_ms: Mapping[str, Mapping[str, float]]
    # What the run was made with: weights, engine, precision, machine, versions…
    conditions: Mapping[str, str]
    # By the node, the sequence numbers of the first and the last frame that it received, where the middleware
    # has them; the player's first is 1
    sequence: tuple[int, int] | None = None
    # By the player, the frames that it could not read, one line each
    unreadable: tuple[str, ...] = ()


def _frames_of_results(run: LiveRun) -> list[int]:
    """Return the index in `published` of each result's frame: the last of its stamp sent before it arrived.

    Stamps repeat when a bag is looped, or when a driver does not set them.
    """
    sent: dict[int, list[int]] = defaultdict(list)
    for index, frame in enumerate(run.published):
        sent[frame.stamp_ns].append(index)
    frames = []
    for result in run.results:
        if result.stamp_ns not in sent:
            raise ValueError(
                f'a result is stamped {result.stamp_ns} ns, and no frame with that stamp was published'
            )
        same = sent[result.stamp_ns]
        later = bisect_right(same, result.arrival_ns, key=lambda index: run.published[index].sent_ns)
        frames.append(same[max(later - 1, 0)])
    return frames


def _time_s(run: LiveRun, index: int) -> float:
    return (run.published[index].due_ns - run.published[0].due_ns) / 1e9


def ages(run: LiveRun) -> list[tuple[float, float]]:
    """Return each result's time and age: when its frame was due (s from the first), due to arrival (ms).

    Raises:
        ValueError: a result has a stamp that was never published.
    """
    return [
        (_time_s(run, index), (result.arrival_ns - run.published[index].due_ns) / 1e6)
        for result, index in zip(run.results, _frames_of_results(run))
    ]


def lost(run: LiveRun) -> int:
    """Return the frames lost in transport, by number: between those that came, before and after them."""
    sent = sum(not frame.refused for frame in run.published)
    if not run.counters['received']:
        return sent
    first, last = run.sequence or (1, sent)
    return run.counters['lost'] + first - 1 + sent - last


def misses(run: LiveRun) -> list[tuple[float, str]]:
    """Return the time (s from the first) of each frame without a result.

    The node counts fates but keeps no stamps, so that the fate of a single frame is 'no result', unless the
    sender refused it.
    """
    done = set(_frames_of_results(run))
    return [
        (_time_s(run, index), 'refused' if frame.refused else 'no result')
        for index, frame in enumerate(run.published)
        if index not in done
    ]
