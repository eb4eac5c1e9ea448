# SPDX-License-Identifier: Apache-2.0
"""The node's state as a diagnostic message."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from lw_refinenet_ros.node.statistics import Statistics

__all__ = [
    'FATES',
    'LOST',
    'READY',
    'RECEIVED',
    'SEQUENCE',
    'SUPERSEDED',
    'TOPIC',
    'WARMING_UP',
    'Status',
    'build_status',
    'output_topic',
    'read_sequence',
    'read_status',
]

# Message, all values, frames by fate, and percentiles of each stage in milliseconds.
Status = tuple[str, dict[str, str], dict[str, int], dict[str, dict[str, float]]]

READY = 'ready'
RECEIVED = 'received'
LOST = 'lost'  # between two that came; what was lost before the first and after the last, `SEQUENCE` shows
WARMING_UP = 'warming up'
SUPERSEDED = 'superseded'
SEQUENCE = 'sequence numbers'  # FIRST to LAST of the publisher that was heard last
TOPIC = 'topic'  # of the images; 'OUTPUT topic' that of an output that was remapped
# What becomes of a frame, always listed; 'bad: REASON' is added when it happens.
FATES = (
    RECEIVED,
    'segmented',
    SUPERSEDED,
    LOST,
    WARMING_UP,
    'skipped',
    'unwatched',
    'failed',
)


def build_status(
    name: str, level: bytes, message: str, statistics: Statistics, extra: dict[str, str]
) -> DiagnosticStatus:
    """Build a status; `extra` are values beside the statistics, such as device, model and topic."""
    fates = dict.fromkeys(FATES, 0) | statistics.fates()
    values = {'rate_hz': f'{statistics.rate_hz():.2f}'}
    values |= {f'frames {fate}': str(count) for fate, count in fates.items()}
    for stage, percentiles in statistics.latencies_ms().items():
        values |= {f'{stage} {p} ms': f'{value:.3f}' for p, value in percentiles.items()}
    values |= extra
    return DiagnosticStatus(
        level=level,
        name=name,
        message=message,
        hardware_id=extra.get('engine', ''),
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )


def output_topic(values: dict[str, str], prefix: str, output: str) -> str:
    """Return the topic of an output; `prefix` is the node's name, with the camera's if it has several."""
    return values.get(f'{output} {TOPIC}', f'{prefix}/{output}')


def read_sequence(values: dict[str, str]) -> tuple[int, int] | None:
    """Return the first and last sequence number of the publisher that the node heard last, None without."""
    first, _, last = values.get(SEQUENCE, '').partition(' to ')
    return (int(first), int(last)) if last else None


def read_status(message: DiagnosticArray, name: str) -> Status | None:
    """Read a status of `build_status`; None if the message has no status of that name."""
    for status in message.status:
        if status.name != name:
            continue
        values = {v.key: v.value for v in status.values}
        fates = {k.removeprefix('frames '): int(v) for k, v in values.items() if k.startswith('frames ')}
        stages: dict[str, dict[str, float]] = {}
        for key, value in values.items():
            parts = key.split(' ')
            if len(parts) == 3 and parts[2] == 'ms':
                stages.setdefault(parts[0], {})[parts[1]] = float(value)
        return status.message, values, fates, stages
    return None
