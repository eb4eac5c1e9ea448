# SPDX-License-Identifier: Apache-2.0
"""Evaluate several recordings at once on a Ray cluster (https://docs.ray.io), if Ray is installed."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any

from lw_refinenet_ros.evaluation.recording import Done, Failed, Recording, evaluate_recording

__all__ = ['evaluate_on_ray']

LOCAL = 'local'


def evaluate_on_ray(
    recordings: Sequence[Recording],
    address: str,
    jobs: int | None,
    progress: Callable[[int, int | None], None],
) -> list[Done | Failed]:
    """Evaluate recordings on a cluster; the results are in the order of the recordings.

    Every machine needs this package, and the recordings under the same paths. A recording whose machine dies
    is evaluated on another, from its checkpoint where that is on a shared disk.

    Args:
        recordings: what to evaluate.
        address: of the cluster; 'auto': the one this machine belongs to; 'local': one on this machine alone.
        jobs: how many recordings at once; None: as many as there are processors for.
        progress: called with the number of finished recordings and their total.

    Raises:
        ValueError: Ray is not installed, there is no such cluster, or what `evaluate_recording` raises.
    """
    try:
        ray = importlib.import_module('ray')
    except ImportError as error:
        raise ValueError('--ray needs Ray, which is not installed here: pip install ray') from error
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')  # or Ray reports to its makers
    own: dict[str, Any] = {'include_dashboard': False, '_node_ip_address': '127.0.0.1'}
    try:
        ray.init(address=address, logging_level='ERROR', **(own if address == LOCAL else {}))
    except Exception as error:
        reason = next(iter(str(error).splitlines()), '') or type(error).__name__
        raise ValueError(f'--ray {address}: no cluster can be reached: {reason}') from error
    try:
        return _evaluate(ray, recordings, jobs or len(recordings), progress)
    finally:
        ray.shutdown()


def _evaluate(
    ray: Any, recordings: Sequence[Recording], jobs: int, progress: Callable[[int, int | None], None]
) -> list[Done | Failed]:
    results: dict[int, Done | Failed] = {}
    waiting = list(enumerate(recordings))[::-1]
    running: dict[Any, int] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            index, recording = waiting.pop()
            needs = {
                'num_cpus': recording.engine['threads'],
                'num_gpus': int(recording.engine.get('device') == 'cuda'),
            }
            running[ray.remote(**needs)(_run).remote(recording)] = index
        (reference,), _ = ray.wait(list(running))
        index = running.pop(reference)
        try:
            answer = ray.get(reference)
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(f'{recordings[index].name} failed on the cluster: {reason}') from error
        if isinstance(answer, str):
            raise ValueError(answer)
        results[index] = answer
        progress(len(results), len(recordings))
    return [results[index] for index in range(len(recordings))]


def _run(recording: Recording) -> Done | Failed | str:
    """Evaluate a recording; return an error as text, since not every exception can be pickled."""
    try:
        return evaluate_recording(recording, lambda *_: None)
    except (ValueError, OSError) as error:
        return f'{recording.name}: {error}'
