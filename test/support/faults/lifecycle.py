# SPDX-License-Identifier: Apache-2.0
"""The node driven round its lifecycle while a camera publishes and somebody listens."""

from pathlib import Path

from test.support.faults.load import publisher
from test.support.long_run import LongRun

EARLY = 10  # rounds; by then what is made once is there
MEMORY_MB = 60  # what malloc and OpenVINO keep levels off below it; the tiny network has 14 MB


def go_round(node: LongRun, count: int, progress=lambda done: None) -> list[dict]:
    """Configure, activate, deactivate and clean up so many times; return what the node then holds.

    Raises:
        AssertionError: a transition failed, no label came, or a round left something behind.
    """
    rounds = []
    with publisher('--size', '320x240'):
        for index in range(count):
            for label in ('configure', 'activate'):
                assert node.transition(label), f'{label}, round {index}: {" | ".join(node.said)[-500:]}'
            node.received['label'].clear()
            node.spin_until(lambda: node.received['label'], f'label in round {index}')
            for label in ('deactivate', 'cleanup'):
                assert node.transition(label), f'{label}, round {index}: {" | ".join(node.said)[-500:]}'
            descriptors = len(list(Path(f'/proc/{node.process.pid}/fd').iterdir()))
            rounds.append((node.threads(), descriptors, node.memory_mb()))
            progress(index + 1)
    node.spin_until(
        lambda: not node.client.get_subscriptions_info_by_topic('/image'), 'end of the subscriptions'
    )
    assert node.client.count_publishers('/lw_refinenet/label') == 0, 'publishers are left'
    parts = {f'rounds 1 to {EARLY}': rounds[:EARLY], f'the last {EARLY}': rounds[-EARLY:]}
    early, late = ([max(column) for column in zip(*part)] for part in parts.values())
    assert late[0] <= early[0], f'threads are left: {early[0]}, then {late[0]}'
    assert late[1] <= early[1], f'descriptors are left: {early[1]}, then {late[1]}'
    assert late[2] < early[2] + MEMORY_MB, f'memory grows from {early[2]:.1f} to {late[2]:.1f} MB'
    columns = ('threads, most', 'descriptors, most', 'memory, most (MB)')
    return [{'part': name, **dict(zip(columns, most))} for name, most in zip(parts, (early, late))]
