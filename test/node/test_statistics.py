# SPDX-License-Identifier: Apache-2.0
"""Rates and percentiles of the frames, by a clock of the test's."""

from types import SimpleNamespace

from lw_refinenet_ros.node import statistics
from lw_refinenet_ros.node.statistics import Statistics


def test_the_rate_is_that_of_the_last_five_seconds_and_percentiles_are_of_each_stage(monkeypatch):
    clock = SimpleNamespace(now_s=0.0)
    monkeypatch.setattr(statistics, 'time', SimpleNamespace(monotonic=lambda: clock.now_s))
    counted = Statistics()
    assert (counted.rate_hz(), counted.latencies_ms()) == (0.0, {})
    for index in range(101):
        clock.now_s = index if index < 50 else 50 + (index - 50) * 0.125  # 1 Hz, then 8 Hz
        counted.segmented({'total': float(index)}, batch=2, age_ms=20.0)
    assert counted.rate_hz() == 8.0
    assert counted.latencies_ms() == {'total': {'p50': 50.0, 'p95': 95.0, 'p99': 99.0}}
    assert counted.fates() == {'segmented': 101}
    clock.now_s += 5.0
    assert counted.rate_hz() == 0.0
