# SPDX-License-Identifier: Apache-2.0
"""Everything at once on the running node: floods, swaps, transitions, bad messages, freezing peers."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import rclpy
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image, PointCloud2

from lw_refinenet_ros.node.parameters import PARAMETERS
from test.support.faults.messages import damaged, originals
from test.support.faults.parameters import odd_parameter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from test.support.long_run import LongRun

NODE = '/lw_refinenet'
PUBLISHERS, SUBSCRIBERS, LIFECYCLE_CLIENTS = 50, 100, 4
SIZES = ((480, 640), (96, 128), (272, 640), (1, 1), (600, 800), (33, 47))  # (height, width) of the pictures
TOPICS = dict.fromkeys(('label', 'confidence', 'color', 'overlay'), Image)
TOPICS |= {'overlay/compressed': CompressedImage, 'points': PointCloud2}
TRANSITIONS = ('configure', 'activate', 'activate', 'deactivate', 'cleanup')
ANSWER_S = 5.0  # before a client gives up on an answer
GOOD = 0.1  # share of the requests that set all parameters to good values, or nothing configures again
FLAT = 1.05  # of the memory after the warm-up may be there afterwards
SERVED_S = 1.0  # to the first label afterwards
GIVEN_UP_S = 25.0  # the middleware resends to peers that were killed until it gives them up, after 20 s
IDLE_S, IDLE_CORES = 20.0, 0.01
TICKS = os.sysconf('SC_CLK_TCK')


# Peers, each in its own process


class Peer:
    """A node that abuses the node under test until it is told to end, and prints what it did."""

    def __init__(self, role: str, seed: int) -> None:
        rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
        signal.signal(signal.SIGTERM, self._end)
        self.node = rclpy.create_node(f'{role}_{seed}')
        self.rng, self.done = random.Random(seed), Counter()
        sys.stdout.write('ready\n')
        sys.stdout.flush()

    def _end(self, *_: object) -> NoReturn:
        sys.stdout.write(json.dumps(self.done))
        sys.stdout.flush()
        os._exit(0)

    def ask(self, client: object, request: object) -> object | None:
        """Return the answer to a request, or None on a timeout."""
        future = client.call_async(request)
        rclpy.spin_until_future_complete(self.node, future, timeout_sec=ANSWER_S)
        if not future.done():
            client.remove_pending_request(future)
        return future.result() if future.done() else None

    def publish(self, *_: str) -> None:
        """Publish images of all sizes and bad messages, each from one of many publishers."""
        good = originals()['Image']
        pictures = [np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8) for size in SIZES]
        messages = [
            Image(height=p.shape[0], width=p.shape[1], step=p.strides[0], encoding='rgb8', data=p.tobytes())
            for p in pictures
        ]
        kinds = (ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT)
        publishers = [
            self.node.create_publisher(Image, '/image', QoSProfile(depth=1, reliability=kinds[index % 2]))
            for index in range(PUBLISHERS)
        ]
        while True:
            is_bad = self.rng.random() < 0.2
            message = damaged(self.rng.choice(good), self.rng) if is_bad else self.rng.choice(messages)
            self.rng.choice(publishers).publish(message)
            self.done['bad messages' if is_bad else 'pictures'] += 1
            time.sleep(0.01)

    def subscribe(self, *_: str) -> None:
        """Subscribe to every output many times, and unsubscribe again."""
        names = list(TOPICS)
        subscriptions = [self._subscription(names[index % len(names)]) for index in range(SUBSCRIBERS)]
        while True:
            end = time.monotonic() + 0.2
            while time.monotonic() < end:
                rclpy.spin_once(self.node, timeout_sec=0.05)
            index = self.rng.randrange(SUBSCRIBERS)
            self.node.destroy_subscription(subscriptions[index])
            subscriptions[index] = self._subscription(self.rng.choice(names))
            self.done['subscriptions made anew'] += 1

    def _subscription(self, name: str) -> object:
        def count(_: object) -> None:
            self.done['results received'] += 1

        return self.node.create_subscription(TOPICS[name], f'{NODE}/{name}', count, 1)

    def change_state(self, *_: str) -> None:
        """Request random lifecycle transitions."""
        client = self.node.create_client(ChangeState, f'{NODE}/change_state')
        while True:
            request = ChangeState.Request()
            request.transition.label = self.rng.choice(TRANSITIONS)
            response = self.ask(client, request)
            answer = 'unanswered' if response is None else 'made' if response.success else 'refused'
            self.done[f'transitions {answer}'] += 1
            time.sleep(self.rng.uniform(0, 1))

    def set_parameters(self, good: str, *weights: str) -> None:
        """Set odd parameters and other weights, and now and then good ones: the node configures again."""
        values = [Parameter(k, value=v).to_parameter_msg() for k, v in json.loads(good).items()]
        one_by_one = self.node.create_client(SetParameters, f'{NODE}/set_parameters')
        atomically = self.node.create_client(SetParametersAtomically, f'{NODE}/set_parameters_atomically')
        while True:
            parameters = [odd_parameter(self.rng) for _ in range(self.rng.randint(1, 3))]
            if swap := self.rng.random() < 0.3:
                parameters[0].name, value = 'weights', parameters[0].value
                value.type, value.string_value = ParameterType.PARAMETER_STRING, self.rng.choice(weights)
            client = self.rng.choice((one_by_one, atomically))
            name = 'requests of other weights' if swap else 'requests of odd parameters'
            if self.rng.random() < GOOD:
                client, parameters, name = atomically, values, 'requests of good parameters'
            response = self.ask(client, client.srv_type.Request(parameters=parameters))
            self.done[f'{name}{" unanswered" if response is None else ""}'] += 1


# The process that drives them


@contextmanager
def peer(role: str, seed: int, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a peer until `stop` or the end of its time."""
    command = [sys.executable, '-m', 'benchmark.fault_abuse', role, str(seed), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def stop(process: subprocess.Popen[str]) -> Counter:
    """End a peer, which may be frozen or hang after others died, and return what it did."""
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGTERM)
    try:
        output, _ = process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        return Counter({'peers killed that hung': 1})
    return Counter(json.loads(output))


def abuse(
    node: LongRun, weights: list[str], seconds: float, seed: int, progress: Callable[[int], None]
) -> list[dict]:
    """Abuse a node for the seconds given to warm it up, and again.

    Returns:
        A row for each: what was done, and the state of the node afterwards.

    Raises:
        AssertionError: the node died or does not serve again.
    """
    names = [p.name for p in PARAMETERS if not p.read_only]
    good = {name: parameter_value_to_python(value) for name, value in zip(names, node.get(*names))}
    rows = []
    for part in ('warm-up', 'abuse'):  # pools grow to the largest message and the most peers
        done = _play(node, good, weights, seconds, seed + len(rows), progress)
        label_s = _restore(node, good)
        node.spin_for(GIVEN_UP_S)
        cores = _cores(node)
        row = {'part': part, 'memory (MB)': node.memory_mb(), 'threads': node.threads()}
        row |= {'descriptors': len(list(Path(f'/proc/{node.process.pid}/fd').iterdir()))}
        rows.append(
            {**row, 'first label after (s)': label_s, 'CPU at rest (% of a core)': cores * 100, **done}
        )
    names = sorted({name for row in rows for name in row}, key=lambda name: [*rows[0], name].index(name))
    return [{name: row.get(name, 0) for name in names} for row in rows]


def check(rows: list[dict]) -> None:
    """Check that memory is flat, the first label prompt, and the node at rest."""
    early, late = (row['memory (MB)'] for row in rows)
    assert late <= early * FLAT, f'memory grows from {early:.1f} to {late:.1f} MB'
    for row in rows:
        assert row['first label after (s)'] <= SERVED_S, row
        assert row['CPU at rest (% of a core)'] <= IDLE_CORES * 100, row


def _play(
    node: LongRun,
    good: dict,
    weights: list[str],
    seconds: float,
    seed: int,
    progress: Callable[[int], None],
) -> Counter:
    """Run all peers, freezing one after the other for a while."""
    rng = random.Random(seed)
    roles = ['publish', 'subscribe', 'set_parameters', *['change_state'] * LIFECYCLE_CLIENTS]
    with ExitStack() as stack:
        peers = [
            stack.enter_context(peer(role, 100 * seed + index, json.dumps(good), *weights))
            for index, role in enumerate(roles)
        ]
        for process in peers:
            assert process.stdout.readline() == 'ready\n', 'a peer did not start'
        end, frozen = time.monotonic() + seconds, 0
        while (left := end - time.monotonic()) > 0:
            node.spin_for(min(left, rng.uniform(0, 1)))
            victim = rng.choice(peers)
            victim.send_signal(signal.SIGSTOP)
            node.spin_for(rng.uniform(0, 2))
            victim.send_signal(signal.SIGCONT)
            frozen += 1
            for kept in node.received.values():
                kept.clear()
            progress(round(seconds - left))
        done = sum((stop(process) for process in peers), Counter())
    return done + Counter({'peers frozen': frozen})


def _restore(node: LongRun, good: dict) -> float:
    """Bring the node back as an operator would; return the seconds from active to the first label."""
    for label in ('deactivate', 'cleanup'):  # refused where there is nothing to do
        node.transition(label)
    result = node.set_atomically(**good)
    assert result.successful, result.reason
    for _ in range(2):  # transitions under way may end after the first
        if node.state() == 'unconfigured':
            node.transition('configure')
        if node.state() == 'inactive':
            node.transition('activate')
    assert node.state() == 'active', f'the node is {node.state()}: {" | ".join(node.said)[-1000:]}'
    started, kept = time.monotonic(), node.received['label']
    kept.clear()
    picture = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    while not kept:
        node.send(picture, stamp_ns=10**15)
        with suppress(AssertionError):
            node.spin_until(lambda: kept, 'label', 0.04)
        assert time.monotonic() - started < 60, f'no label; {node.status}; {" | ".join(node.said)[-1000:]}'
    return time.monotonic() - started


def _cores(node: LongRun) -> float:
    """Return the cores that the node keeps busy without a camera and without image subscribers."""

    def ticks() -> int:
        fields = Path(f'/proc/{node.process.pid}/stat').read_text().rpartition(')')[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    node.spin_for(IDLE_S)
    return (ticks() - before) / TICKS / IDLE_S


if __name__ == '__main__':
    getattr(Peer(sys.argv[1], int(sys.argv[2])), sys.argv[1])(*sys.argv[3:])
