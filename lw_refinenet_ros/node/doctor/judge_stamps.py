# SPDX-License-Identifier: Apache-2.0
"""Judges the stamps of what the node takes: whether they advance, and by which clock."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from lw_refinenet_ros.node.doctor.facts import Camera, Facts, Stream
from lw_refinenet_ros.node.doctor.finding import Finding, fault, ok, warning

__all__ = ['CLOCKS', 'judge_stamps']

LATE_MS, AHEAD_MS = 500.0, -20.0
OTHER_CLOCK_MS = 10_000.0  # no frame waits that long in the node, which keeps the newest only
DRIFT_S, DRIFT = 0.5, 0.15  # of the offset within the watch, and of its time; more is no constant offset
OFTEN = 0.1  # of the messages; a bag that is looped is longer
CLOCKS = 'set use_sim_time on both sides alike, and publish /clock (play --clock) where it is true'
ONLY_LABELS = (
    'labels need nothing; for tf and Nav2 play the bag with --clock and set use_sim_time: true of all nodes, '
    'or synchronise the camera (chrony, PTP)'
)
SPANS = ((172_800, 86_400, 'days'), (7_200, 3_600, 'hours'), (120, 60, 'minutes'), (0, 1, 's'))


def judge_stamps(camera: Camera, facts: Facts) -> Iterator[Finding]:
    """Judge the stamps of a camera's inputs, and the age of its results by them."""
    wrong = {}
    for role in ('image', 'depth', 'cloud'):
        if role in camera.streams and (finding := _judge_advance(role, camera.streams[role])):
            wrong[role] = finding
    yield from wrong.values()
    if 'image' not in wrong or wrong['image'].level != 'fault':  # else they tell no age
        yield from _judge_age(camera, facts)


def _judge_advance(role: str, stream: Stream) -> Finding | None:
    """Return what is wrong with the order of a topic's stamps."""
    check, stamps = f'{role}: stamps', [message.stamp_ns for message in stream.messages]
    remedy = 'let the driver stamp each message with the time of its exposure'
    if stamps and not any(stamps):
        return fault(check, f'0 in all messages on {stream.topic}', remedy)
    if len(stamps) > 2 and len(set(stamps)) == 1:
        return fault(check, f'they stand still at {stamps[0] / 1e9:.3f} s on {stream.topic}', remedy)
    if back := sum(after <= before for before, after in pairwise(stamps)):
        value = f'{back} of {len(stamps) - 1} on {stream.topic} are not later than the one before'
        serious = fault if back > 1 and back > OFTEN * len(stamps) else warning
        return serious(check, value, f'{remedy}; only a bag that is looped starts again')
    return None


def _judge_age(camera: Camera, facts: Facts) -> Iterator[Finding]:
    if not camera.counted.get('segmented'):
        return  # the status keeps the age of a frame of before
    age = camera.values.get('age_ms')  # absent if it is above an hour
    if age is None or abs(float(age)) > OTHER_CLOCK_MS:
        yield _judge_offset(camera, facts)
    elif float(age) < AHEAD_MS:
        yield warning('age', f'{age} ms: stamps lie in the future', 'synchronise the clocks (chrony, PTP)')
    elif float(age) > LATE_MS:
        yield warning('age', f'{age} ms', 'see stages in /diagnostics; a smaller network_height is faster')
    else:
        yield ok('age', f'{age} ms')


def _judge_offset(camera: Camera, facts: Facts) -> Finding:
    """Judge stamps of another clock: those of a replayed bag serve as long as nothing needs the time."""
    messages = camera.streams['image'].messages if 'image' in camera.streams else ()
    if facts.sim_time.get(facts.node) or not messages:
        return fault('age', "stamps are of another clock than the node's", CLOCKS)
    last = messages[-1]
    offset_s = (last.received_ns - last.stamp_ns) / 1e9
    drift_s = sum(
        (after.received_ns - before.received_ns - after.stamp_ns + before.stamp_ns) / 1e9
        for before, after in pairwise(messages)
        if after.stamp_ns > before.stamp_ns  # else a looped bag starts again
    )
    apart_s = abs(offset_s)
    unit_s, unit = next((unit_s, unit) for least_s, unit_s, unit in SPANS if apart_s >= least_s)
    apart = f'{apart_s / unit_s:.1f} {unit} {"behind" if offset_s > 0 else "ahead of"} the clock'
    value = f'stamps are a constant {apart}, as of a replayed bag or a camera with a clock of its own'
    if abs(drift_s) > max(DRIFT_S, DRIFT * (last.received_ns - messages[0].received_ns) / 1e9):
        value = f'stamps are {apart} and drift by {drift_s:.1f} s while watched, as of a bag at another rate'
    serious = fault if facts.costmaps else warning
    return serious('age', value, ONLY_LABELS)
