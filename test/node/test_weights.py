# SPDX-License-Identifier: Apache-2.0
"""Weights changed while the node serves, over real DDS."""

import itertools
import json
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

from lw_refinenet_ros.inference.engine import Job
from lw_refinenet_ros.inference.segmenter import Segmenter
from lw_refinenet_ros.node import model_swap
from lw_refinenet_ros.node.candidate import load_candidate, make_segmenter
from lw_refinenet_ros.node.model_swap import ModelSwap, Request
from test.support.node_process import NodeProcess, pixels_of
from test.support.tiny_network import write_tiny_weights

pytestmark = pytest.mark.ros

# Warming up waits until the file says how it shall end; beside it lies a line for each engine that was begun.
GATED = """
import os, pathlib, time
from lw_refinenet_ros.inference import segmenter
from lw_refinenet_ros.node import main
gate, make_engine = pathlib.Path(os.environ['GATE']), segmenter.make_engine
def gated(*args, **options):
    with gate.with_name('begun').open('a') as file:
        print(file=file)
    while not (word := gate.read_text()):
        time.sleep(0.01)
    if word == 'fail':
        raise RuntimeError('the gate is shut')
    return make_engine(*args, **options)
segmenter.make_engine = gated
main.main()
"""
stamps = itertools.count(12_000_000_000)


@pytest.fixture(scope='module')
def other_weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp('other')
    return write_tiny_weights(folder / 'other.safetensors', seed=2, names=('wall', 'floor', 'door', 'lamp'))


@pytest.fixture(scope='module')
def node(tiny_weights, gate):
    os.environ['GATE'] = str(gate)
    running = NodeProcess(program=GATED, weights=str(tiny_weights))
    running.listen('label_names', 'label', 'overlay')
    running.wait_active()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def first_weights(node, tiny_weights, gate, street):
    """Each test begins with the node's first weights, the gate open."""
    gate.write_text('open')
    weights, classes = node.get('weights', 'overlay_classes')
    if (weights.string_value, classes.string_array_value) != (str(tiny_weights), ['']):
        assert node.set_atomically(weights=str(tiny_weights), overlay_classes=['']).successful
        serve(node, tiny_weights)


def serve(node, weights):
    def serving():
        return (
            node.status
            and node.status[1]['weights'] == str(weights)
            and 'weights to come' not in node.status[1]
        )

    for _ in range(2):  # the first may have been under way before the change
        node.status = None
        node.spin_until(serving, f'{weights} to serve')


def begun(gate):
    return len(gate.with_name('begun').read_text())


def threads_of(node):
    return len(list(Path(f'/proc/{node.process.pid}/task').iterdir()))


def ran_ns_of_low_priority(node):
    """The CPU time of each thread that gives way to others, in ns, by its id."""
    ran_ns = {}
    for task in Path(f'/proc/{node.process.pid}/task').iterdir():
        with suppress(OSError):  # it has ended
            if os.getpriority(os.PRIO_PROCESS, int(task.name)) > 0:
                ran_ns[task.name] = int((task / 'schedstat').read_text().split()[0])
    return ran_ns


def label_of(node, street):
    return pixels_of(node.answer('label', street, next(stamps)))


def expected(weights, street):
    return Segmenter.load(str(weights)).segment(street).label


def test_the_old_model_serves_until_the_new_one_is_warm(node, tiny_weights, other_weights, gate, street):
    gate.write_text('')
    assert node.set(weights=str(other_weights))[0].successful
    node.spin_until(lambda: 'weights to come' in node.status[1], 'warming up')
    assert node.status[1]['weights to come'] == str(other_weights)
    assert node.status[1]['weights'] == str(tiny_weights)
    np.testing.assert_array_equal(label_of(node, street), expected(tiny_weights, street))
    gate.write_text('open')
    serve(node, other_weights)
    np.testing.assert_array_equal(label_of(node, street), expected(other_weights, street))
    assert node.get('weights')[0].string_value == str(other_weights)


def test_what_serves_after_a_change_runs_at_full_priority(node, other_weights, street):
    label_of(node, street)
    assert node.set(weights=str(other_weights))[0].successful
    serve(node, other_weights)
    label_of(node, street)
    before = ran_ns_of_low_priority(node)
    for _ in range(5):
        label_of(node, street)
    after = ran_ns_of_low_priority(node)
    assert {thread: ran for thread, ran in after.items() if ran != before.get(thread, ran)} == {}


def test_the_new_names_are_out_before_the_new_models_first_label(node, tiny_weights, other_weights, street):
    events = []
    node.received['label_names'].clear()
    node.client.create_subscription(type(node.answer('label', street, next(stamps))), '/lw_refinenet/label',
        lambda m: events.append((len(node.received['label_names']), pixels_of(m).copy())), 10)  # fmt: skip
    assert node.set(weights=str(other_weights))[0].successful
    new, old = expected(other_weights, street), expected(tiny_weights, street)

    def new_label():
        node.send(street, stamp_ns=next(stamps))
        return any(np.array_equal(label, new) for _, label in events)

    node.spin_until(new_label, 'label of the new model')
    names_seen = [seen for seen, label in events if not np.array_equal(label, old)]
    assert names_seen[0] == 1
    named = json.loads(node.received['label_names'][0].data)['classes']
    assert [c['name'] for c in named] == ['wall', 'floor', 'door', 'lamp', 'unlabelled']


@pytest.mark.parametrize('fault', ['missing', 'truncated', 'not safetensors', 'not finite', 'other shapes'])
def test_a_bad_file_is_refused_with_the_reason_and_changes_nothing(
    node, tiny_weights, tmp_path, street, fault
):
    path = tmp_path / 'bad.safetensors'
    content = tiny_weights.read_bytes()
    if fault == 'truncated':
        path.write_bytes(content[:-100])
    elif fault == 'not safetensors':
        path.write_bytes(b'PK\x03\x04' + content)
    elif fault == 'not finite':
        path.write_bytes(content[:-2] + b'\xff\x7f')
    elif fault == 'other shapes':
        path.write_bytes(
            content.replace(b'\\"width\\":8', b'\\"width\\":9').replace(b'"width\\": 8', b'"width\\": 9')
        )
        assert path.read_bytes() != content
    result = node.set_atomically(weights=str(path), overlay_alpha=0.125)
    assert not result.successful
    assert str(path) in result.reason
    weights, alpha = node.get('weights', 'overlay_alpha')
    assert (weights.string_value, alpha.double_value) == (str(tiny_weights), 0.5)
    np.testing.assert_array_equal(label_of(node, street), expected(tiny_weights, street))


def test_the_overlays_classes_must_be_the_new_models(node, tiny_weights, other_weights):
    assert node.set(overlay_classes=['road'])[0].successful
    (result,) = node.set(weights=str(other_weights))
    assert not result.successful
    assert "'road'" in result.reason
    assert node.get('weights')[0].string_value == str(tiny_weights)
    assert node.set_atomically(weights=str(other_weights), overlay_classes=['floor']).successful
    serve(node, other_weights)


def test_should_warming_up_fail_all_goes_back_and_the_diagnostics_say_error(
    node, tiny_weights, other_weights, gate, street
):
    assert node.set(overlay_classes=['road'])[0].successful
    gate.write_text('')
    assert node.set_atomically(weights=str(other_weights), overlay_classes=['floor']).successful
    node.answer('overlay', street, next(stamps))
    gate.write_text('fail')
    node.spin_until(lambda: 'the gate is shut' in node.status[0], 'reason on /diagnostics')
    assert node.level == b'\x02'
    assert str(other_weights) in node.status[0]
    weights, classes = node.get('weights', 'overlay_classes')
    assert weights.string_value == str(tiny_weights)
    assert classes.string_array_value == ['road']
    np.testing.assert_array_equal(label_of(node, street), expected(tiny_weights, street))
    assert node.set(weights=str(tiny_weights))[0].successful  # as they are: the fault is settled
    node.spin_until(lambda: node.level != b'\x02', 'diagnostics without a fault')


def test_a_model_that_fails_to_compile_gives_its_memory_back(monkeypatch, street):
    closed = threading.Event()
    job = Job(street.shape[:2], street.shape[:2], 'rgb')

    def fail(*_: object) -> None:
        raise RuntimeError('out of memory')

    segmenter = SimpleNamespace(job=lambda *_, **__: job, prepare=fail, close=closed.set)
    monkeypatch.setattr(model_swap, 'make_segmenter', lambda *_: segmenter)
    ended = threading.Event()
    swap = ModelSwap(ended.set)
    candidate = SimpleNamespace(weights=SimpleNamespace(name='new'))
    settings = SimpleNamespace(network_size=None)
    swap.begin(Request(candidate, {}, lambda: settings, lambda: [job]), {})
    assert ended.wait(60)
    assert 'out of memory' in swap.fault
    assert closed.is_set()
    swap.close()


@pytest.mark.parametrize(('threads', 'used'), [(3, 3), (0, 2)])
def test_a_model_runs_with_the_threads_asked_for_and_not_with_the_one_it_was_made_with(
    tiny_weights, one_thread, threads, used
):
    torch.set_num_threads(2)
    engine = {'device': 'cpu', 'engine': 'torch', 'precision': 'fp32', 'threads': threads}
    make_segmenter(load_candidate(str(tiny_weights)), engine)
    assert torch.get_num_threads() == used


@pytest.fixture
def swap(monkeypatch):
    """A swap of models that are prepared as far as `go` lets them, and say what was done to them."""
    made, go, woken = {}, threading.Semaphore(0), threading.Semaphore(0)

    def make(candidate, _):
        model = made[candidate.weights.name] = SimpleNamespace(prepared=[], closed=threading.Event())

        def prepare(job):
            model.prepared.append(job)
            assert go.acquire(timeout=60)
            if candidate.weights.name == 'bad':
                raise RuntimeError('bad')

        model.prepare, model.close = prepare, model.closed.set
        model.job = lambda *args, **options: (*args, options)
        return model

    def request(name, jobs=1):
        candidate = SimpleNamespace(weights=SimpleNamespace(name=name))
        job = Job((4, 6), (8, 12), 'bgr', confidence=True, batch=2)
        settings = SimpleNamespace(network_size=(16, 24))
        return Request(candidate, {}, lambda: settings, lambda: [job] * jobs)

    def wait(condition):
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.001)

    monkeypatch.setattr(model_swap, 'make_segmenter', make)
    tried = ModelSwap(woken.release)
    yield SimpleNamespace(swap=tried, made=made, go=go, woken=woken, request=request, wait=wait)
    go.release(99)
    tried.close()


def test_a_model_that_waits_and_never_serves_gives_its_memory_back_and_the_one_that_serves_does_not(swap):
    swap.go.release(99)
    for name in ('first', 'second'):
        swap.swap.begin(swap.request(name), {})
        assert swap.woken.acquire(timeout=60)
    assert swap.made['first'].closed.is_set()
    assert swap.swap.finish().segmenter is swap.made['second']
    network = {'network_size': (16, 24), 'confidence': True, 'batch': 2}
    assert swap.made['second'].prepared == [((4, 6), 'bgr', network)]
    swap.swap.begin(swap.request('third'), {})
    assert swap.woken.acquire(timeout=60)
    swap.swap.cancel()
    assert swap.made['third'].closed.is_set()
    assert not swap.made['second'].closed.is_set()
    assert swap.swap.finish() is None


@pytest.mark.parametrize('jobs', [1, 2])
def test_a_model_that_is_given_up_while_it_compiles_compiles_no_more_and_gives_its_memory_back(swap, jobs):
    swap.swap.begin(swap.request('slow', jobs), {})
    swap.wait(lambda: 'slow' in swap.made and swap.made['slow'].prepared)
    swap.swap.cancel()
    swap.go.release(99)
    assert swap.made['slow'].closed.wait(60)
    assert len(swap.made['slow'].prepared) == 1
    assert swap.swap.finish() is None


def test_should_the_last_of_several_changes_fail_the_parameters_of_what_serves_come_back(swap):
    swap.swap.begin(swap.request('good'), {'weights': 'serving'})
    swap.swap.begin(swap.request('bad'), {'weights': 'good'})
    swap.go.release(99)
    assert swap.woken.acquire(timeout=60)
    assert "weights 'bad' failed to warm up: RuntimeError: bad" in swap.swap.fault
    with swap.swap.rolling_back() as parameters:
        assert parameters == {'weights': 'serving'}
    swap.swap.begin(swap.request('good'), {'weights': 'serving'})
    assert not swap.swap.fault


def test_the_last_of_several_changes_wins(node, tiny_weights, other_weights, gate, tmp_path, street):
    third = write_tiny_weights(tmp_path / 'third.safetensors', seed=3)
    gate.write_text('')
    assert node.set(weights=str(other_weights))[0].successful
    assert node.set(weights=str(third))[0].successful
    gate.write_text('open')
    serve(node, third)
    np.testing.assert_array_equal(label_of(node, street), expected(third, street))
    seen = {
        tuple(c['name'] for c in json.loads(m.data)['classes']) for m in node.received['label_names'][-2:]
    }
    assert ('wall', 'floor', 'door', 'lamp', 'unlabelled') not in seen


def test_an_inactive_node_takes_weights_too(node, other_weights, street):
    assert node.transition('deactivate')
    assert node.set(weights=str(other_weights))[0].successful
    serve(node, other_weights)
    assert node.transition('activate')
    node.wait_active()
    np.testing.assert_array_equal(label_of(node, street), expected(other_weights, street))


def test_superseded_weights_are_never_begun_and_take_no_thread(
    node, tiny_weights, other_weights, gate, tmp_path, street
):
    third = write_tiny_weights(tmp_path / 'third.safetensors', seed=3)
    first = begun(gate)
    gate.write_text('')
    assert node.set(weights=str(other_weights))[0].successful
    node.spin_until(lambda: begun(gate) == first + 1, 'warm-up')
    threads = threads_of(node)
    for weights in (third, other_weights, third) * 5:
        assert node.set(weights=str(weights))[0].successful
    assert threads_of(node) < threads + 5, 'there were 15 requests'
    gate.write_text('open')
    serve(node, third)
    assert begun(gate) == first + 2
    np.testing.assert_array_equal(label_of(node, street), expected(third, street))


def test_weights_that_serve_or_come_already_are_not_begun_again(
    node, tiny_weights, other_weights, gate, street
):
    first = begun(gate)
    assert node.set(weights=str(tiny_weights))[0].successful
    serve(node, tiny_weights)
    assert begun(gate) == first
    gate.write_text('')
    for _ in range(3):
        assert node.set(weights=str(other_weights))[0].successful
    gate.write_text('open')
    serve(node, other_weights)
    assert begun(gate) == first + 1


def test_setting_the_weights_that_serve_cancels_those_that_come(
    node, tiny_weights, other_weights, gate, street
):
    gate.write_text('')
    assert node.set(weights=str(other_weights))[0].successful
    assert node.set(weights=str(tiny_weights))[0].successful
    serve(node, tiny_weights)
    gate.write_text('fail')  # of what nobody wants any more
    node.status = None
    np.testing.assert_array_equal(label_of(node, street), expected(tiny_weights, street))
    node.spin_until(lambda: node.status, 'diagnostics')
    assert node.level != b'\x02', node.status


def test_a_file_that_was_overwritten_is_another_one(node, other_weights, gate, tmp_path, street):
    path = tmp_path / 'best.safetensors'
    write_tiny_weights(path, seed=3)
    assert node.set(weights=str(path))[0].successful
    serve(node, path)
    first = begun(gate)
    path.write_bytes(other_weights.read_bytes())
    assert node.set(weights=str(path))[0].successful
    node.spin_until(lambda: begun(gate) == first + 1, 'warm-up')
    serve(node, path)
    np.testing.assert_array_equal(label_of(node, street), expected(other_weights, street))


def test_the_node_ends_while_weights_come(node, other_weights, gate):
    gate.write_text('')
    first = begun(gate)
    assert node.set(weights=str(other_weights))[0].successful
    node.spin_until(lambda: begun(gate) == first + 1, 'warm-up')
    status, _, output = node.stop(signal.SIGTERM)  # the last test of this node
    assert status == 0, output
    assert 'Traceback' not in output
