# SPDX-License-Identifier: Apache-2.0
"""Memory and CPU time of the node by lifecycle state, with and without a camera and a subscriber."""

import os
import time
from pathlib import Path

from benchmark.table import store
from lw_refinenet_ros.resources import DEFAULT_WEIGHTS
from test.support.faults.load import publisher
from test.support.long_run import LongRun

SECONDS, SETTLE_S = 10.0, 3.0
SIZE, RATE_HZ = '640x480', 30
IDLE_PERCENT = 2.0
TICK_S = 1 / os.sysconf('SC_CLK_TCK')


def main() -> None:
    """Take the node through its states, and store a row for each."""
    node = LongRun(weights=DEFAULT_WEIGHTS, autostart=False)
    rows = []
    try:
        node.client.destroy_publisher(node.images)
        node.spin_until(lambda: node.status, 'diagnostics')
        rows.append(measure(node, 'unconfigured'))
        node.transition('configure')
        rows.append(measure(node, 'inactive'))
        node.transition('activate')
        node.spin_until(lambda: node.status[1]['state'] == 'active', 'active node')
        rows.append(measure(node, 'active, no camera'))
        with publisher('--size', SIZE, '--rate', str(RATE_HZ)):
            node.spin_until(lambda: node.status[0].startswith('idle'), 'camera')
            rows.append(measure(node, 'active, camera, no subscriber'))
            node.listen('label')
            node.spin_until(lambda: node.received['label'], 'labels')
            rows.append(measure(node, 'active, camera, ~/label subscribed to'))
            node.transition('deactivate')
            rows.append(measure(node, 'inactive again, camera'))
        node.transition('cleanup')
        rows.append(measure(node, 'unconfigured again'))
    finally:
        node.close()
    idle = {row['state']: row['CPU (% of a core)'] for row in rows if 'subscribed' not in row['state']}
    over = [f'{state} ({percent:.1f} %)' for state, percent in idle.items() if percent >= IDLE_PERCENT]
    conditions = (
        f'{DEFAULT_WEIGHTS}, {SIZE} rgb8 at {RATE_HZ} Hz, {SECONDS:g} s each after {SETTLE_S:g} s. Memory is '
        'resident and not shared with other processes; CPU time is user and system, of all threads.'
    )
    said = f'missed by {", ".join(over)}' if over else 'reached'
    verdict = f'Idle, at most {IDLE_PERCENT:g} % of a core: {said}.'
    store('idle', 'What the node costs in each state', rows, [verdict, conditions], ('torch', 'openvino'))


def measure(node: LongRun, state: str) -> dict:
    """Return the row of the present state."""
    node.spin_for(SETTLE_S)
    began, before = time.monotonic(), cpu_s(node)
    node.spin_for(SECONDS)
    percent = 100 * (cpu_s(node) - before) / (time.monotonic() - began)
    return {
        'state': state,
        'memory (MB)': node.memory_mb(),
        'CPU (% of a core)': percent,
        'threads': node.threads(),
    }


def cpu_s(node: LongRun) -> float:
    """Return the CPU time that the node's process has used, in seconds."""
    fields = Path(f'/proc/{node.process.pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


if __name__ == '__main__':
    main()
