# SPDX-License-Identifier: Apache-2.0
"""The outcomes of the frames, and the latency of each stage."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque

import numpy as np

__all__ = ['STAGES', 'Statistics']

STAGES = ('wait', 'view', 'inference', 'publish', 'total')  # of a frame's way through the node
WINDOW = 1000  # frames that the percentiles cover
RATE_WINDOW_S = 5.0


class Statistics:
    """Counts frames by fate and keeps the latest latencies; safe to use from several threads.

    Attributes:
        last_received: when the last frame came, in seconds of the monotonic clock; 0 before the first.
        batch: how many cameras' frames the last one was segmented with, itself included; 0 before the first.
        age_ms: of the last result when it was published, by its stamp and the node's clock; None before the
            first.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fates: Counter[str] = Counter()
        self._stages_ms: dict[str, deque[float]] = {stage: deque(maxlen=WINDOW) for stage in STAGES}
        self._finished: deque[float] = deque(maxlen=WINDOW)
        self.last_received = 0.0
        self.batch = 0
        self.age_ms: float | None = None

    def count(self, fate: str, frames: int = 1) -> None:
        """Count frames by outcome."""
        with self._lock:
            self._fates[fate] += frames
            if fate == 'received':
                self.last_received = time.monotonic()

    def segmented(self, stages_ms: dict[str, float], *, batch: int, age_ms: float) -> None:
        """Count one segmented frame.

        Args:
            stages_ms: the time that each of `STAGES` took, in milliseconds; empty for a frame whose graph had
                to be compiled first, since that is no latency of the node.
            batch: frames that it was segmented with, itself included.
            age_ms: of the result when it was published, by its stamp.
        """
        with self._lock:
            self._fates['segmented'] += 1
            self.batch, self.age_ms = batch, age_ms
            for stage, value in stages_ms.items():
                self._stages_ms[stage].append(value)
            self._finished.append(time.monotonic())

    def fates(self) -> dict[str, int]:
        """Return the number of frames by fate since the start."""
        with self._lock:
            return dict(self._fates)

    def rate_hz(self) -> float:
        """Return the segmented frames per second over the last five seconds."""
        now = time.monotonic()
        with self._lock:
            recent = [t for t in self._finished if now - t < RATE_WINDOW_S]
        return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 else 0.0

    def latencies_ms(self) -> dict[str, dict[str, float]]:
        """Return p50, p95 and p99 of each stage over the last frames; empty before the first."""
        with self._lock:
            stages = {stage: list(values) for stage, values in self._stages_ms.items() if values}
        return {
            stage: dict(zip(('p50', 'p95', 'p99'), map(float, np.percentile(values, (50, 95, 99)))))
            for stage, values in stages.items()
        }
