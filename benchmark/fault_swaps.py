# SPDX-License-Identifier: Apache-2.0
"""A flood of other weights: the node keeps its memory and threads, and ends in time at any moment of it."""

import random
import shutil
import signal
import time
from pathlib import Path

from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter

from lw_refinenet_ros.resources import find_weights
from test.support.long_run import LongRun

FLOOD_S = 12.0
PATIENCE_S = 600.0  # for all answers: each file is read and checked
ENDS = 10  # nodes that are ended, each at a random moment of a flood
IN_TIME_S = 2.0
SHIPPED = ('camvid', 'camvid_mobilenet_v2')
MEMORY_MB = 20  # that malloc may keep of a flood beyond what it kept of the one before


def copies(folder: Path) -> list[str]:
    """Return two copies of each of the shipped weights, so that every setting is another file."""
    paths = [folder / f'{name}_{turn}.safetensors' for turn in 'ab' for name in SHIPPED]
    return [shutil.copy(find_weights(path.stem[:-2]), path) and str(path) for path in paths]


def flood(node: LongRun, weights: list[str], count: int, seconds: float) -> int:
    """Set one weights file after the other, evenly over the time; return how many settings were accepted."""
    client = node.client.create_client(SetParameters, '/lw_refinenet/set_parameters')
    assert client.wait_for_service(10), 'the node offers no parameters'
    started, futures = time.monotonic(), []
    for index in range(count):
        parameter = Parameter('weights', value=weights[index % len(weights)]).to_parameter_msg()
        futures.append(client.call_async(SetParameters.Request(parameters=[parameter])))
        while time.monotonic() < started + (index + 1) * seconds / count:
            node.executor.spin_once(timeout_sec=0.005)
    if seconds == FLOOD_S:  # a shorter one ends in mid-air
        node.spin_until(lambda: all(future.done() for future in futures), 'answers', PATIENCE_S)
    done = [future.result() for future in futures if future.done()]
    node.client.destroy_client(client)
    return sum(result is not None and result.results[0].successful for result in done)


def swap_flood(folder: Path, count: int, seed: int, progress=lambda done: None) -> list[dict]:
    """Flood a serving node twice and compare what it holds; then end nodes at random moments of a flood.

    Raises:
        AssertionError: threads or memory grew, or a node did not end in time or not by itself.
    """
    weights, rng, rows = copies(folder), random.Random(seed), []
    node = LongRun(weights=weights[0])
    try:
        node.wait_active()
        _serve_each(node, weights)
        rows.append({'part': 'before', **_held(node)})
        for turn in ('first', 'second'):
            accepted = flood(node, weights, count, FLOOD_S)
            _serve_each(node, weights)
            part = f'after the {turn} {count} settings, {accepted} of them accepted'
            rows.append({'part': part, **_held(node)})
            progress(count * len(rows) // 4)
        before, early, late = rows
        assert late['threads'] <= before['threads'], rows
        assert late['memory (MB)'] <= early['memory (MB)'] + MEMORY_MB, rows
    finally:
        node.close()
    ends = [_end(weights, count, rng.uniform(0, FLOOD_S)) for _ in range(ENDS)]
    late = [f'{seconds:.2f} s' for seconds in ends if seconds > IN_TIME_S]
    assert not late, f'SIGTERM took {", ".join(late)}'
    rows.append({'part': f'SIGTERM at a random moment of {ENDS} floods', 'memory (MB)': '-', 'threads': '-'})
    return [row | {'longest end (s)': '-'} for row in rows[:-1]] + [rows[-1] | {'longest end (s)': max(ends)}]


def _held(node: LongRun) -> dict:
    return {'memory (MB)': node.memory_mb(), 'threads': node.threads()}


def _serve_each(node: LongRun, weights: list[str]) -> None:
    """Have each serve once, so that the measurements compare processes at rest with the same history."""
    for path in weights:
        assert node.set(weights=path)[0].successful
        node.spin_until(lambda path=path: node.status and node.status[1]['weights'] == path, path)
        node.spin_for(5.0)


def _end(weights: list[str], count: int, moment: float) -> float:
    """Start a node, end it at a moment of a flood, and return the seconds that took."""
    node = LongRun(weights=weights[0])
    try:
        node.wait_active()
        flood(node, weights, round(count * moment / FLOOD_S) or 1, moment)
        status, seconds, said = node.stop(signal.SIGTERM)
        assert status in (0, -signal.SIGTERM), f'status {status} after {moment:.1f} s: {said[-800:]}'
        return seconds
    finally:
        node.close()
