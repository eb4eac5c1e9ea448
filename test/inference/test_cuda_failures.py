# SPDX-License-Identifier: Apache-2.0
"""What the CUDA engine does around the device, with a device that only pretends: order, failures, memory.

The device itself is tested in test_cuda.py.
"""

import ctypes
import gc
import itertools
import pickle
import threading
import weakref
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lw_refinenet_ros.inference import passes
from lw_refinenet_ros.inference.cuda import captured_job, pinned_memory, torch_kernels
from lw_refinenet_ros.inference.cuda import engine as cuda_engine
from lw_refinenet_ros.inference.cuda.captured_job import CapturedJob, in_recorder
from lw_refinenet_ros.inference.cuda.engine import CudaEngine
from lw_refinenet_ros.inference.engine import EngineError, Job
from lw_refinenet_ros.inference.segmenter import Segmenter
from lw_refinenet_ros.model.weights import load_model

SIZE = (96, 128)
SMALL = Job((32, 64), (32, 64))


class Replaying(CapturedJob):
    """Does the work again for each frame, since a graph that only pretends does not."""

    def __init__(self, job, compute, *args, **options):
        self.work = job, compute
        super().__init__(job, compute, *args, **options)

    def run(self, batch):
        self.frames.load(batch.images)
        self._pass(*self.work)
        super().run(batch)


@pytest.fixture
def device(monkeypatch):
    """The pretended device: what was done, in which thread, and errors that it will raise."""
    made = SimpleNamespace(
        log=[], pools=[], flags=[], capture_error=None, sync_error=None, free=2**33, pool=itertools.count()
    )
    locked = []

    def page_locked(*shape):
        locked.append(torch.zeros(shape, dtype=torch.uint8))
        return locked[-1]

    def is_pinned(tensor):
        return any(0 <= tensor.data_ptr() - block.data_ptr() < block.nbytes for block in locked)

    def done(what):
        return lambda *_, **__: made.log.append((what, threading.current_thread().name))

    @contextmanager
    def graph(_, *, pool, stream, capture_error_mode):
        done('record')()
        made.pools.append(pool)
        cudnn = torch.backends.cudnn
        made.flags.append((cudnn.benchmark, cudnn.allow_tf32))
        assert capture_error_mode == 'thread_local'
        if made.capture_error:
            raise made.capture_error
        yield

    def synchronize():
        if made.sync_error:
            raise made.sync_error

    stream = SimpleNamespace(device=torch.device('cpu'), synchronize=done('synchronize'))
    event = SimpleNamespace(record=lambda: None, synchronize=lambda: None)
    properties = SimpleNamespace(major=8, name='Pretended GPU')
    monkeypatch.setattr(cuda_engine, '_current_device', lambda: torch.device('cpu'))
    monkeypatch.setattr(cuda_engine, 'CapturedJob', Replaying)
    monkeypatch.setattr(torch.Tensor, 'is_pinned', is_pinned)
    monkeypatch.setattr(pinned_memory, '_map', lambda host, _: host)
    for module in (pinned_memory, captured_job):
        monkeypatch.setattr(module, 'page_locked', page_locked)
    for name, fake in {
        'get_device_properties': lambda _: properties,
        'Stream': lambda _: stream,
        'stream': lambda _: nullcontext(),
        'Event': lambda **_: event,
        'CUDAGraph': lambda: SimpleNamespace(replay=done('replay')),
        'graph': graph,
        'graph_pool_handle': lambda: next(made.pool),
        'synchronize': synchronize,
        'empty_cache': done('empty cache'),
        'mem_get_info': lambda: (made.free, 2**34),
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return made


@pytest.fixture
def model(tiny_weights):
    return load_model(tiny_weights)


@pytest.fixture
def segmenter(device, model):
    network, card = model
    return Segmenter(CudaEngine(network, card, precision='fp32', mapped=False, triton=False), card)


def fail_at(monkeypatch, condition, error):
    """Make the engine's work fail for jobs of a kind, before anything is recorded."""
    compute = CudaEngine._compute

    def failing(self, job, *arguments):
        if condition(job):
            raise error
        compute(self, job, *arguments)

    monkeypatch.setattr(CudaEngine, '_compute', failing)


def test_labels_are_those_of_the_cpu(segmenter, tiny_weights, street):
    reference = Segmenter.load(tiny_weights, engine='torch')
    for result in segmenter.segment_batch([street, street], confidence=True):
        expected = reference.segment(street, confidence=True)
        assert (result.label == expected.label).mean() > 0.999
        assert np.abs(result.confidence.astype(int) - expected.confidence).mean() < 0.5


def test_one_thread_records_all_graphs_whoever_asks_and_alone_sets_the_flags(device, model, street):
    network, card = model
    engines = [CudaEngine(network, card, precision='fp32', mapped=False, triton=False) for _ in range(2)]
    before = torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32
    threads = [
        threading.Thread(target=engine.prepare, args=(Job((32, 32 * n), (32, 32 * n)),))
        for engine in engines
        for n in (1, 2, 3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert device.flags == [(True, False)] * 6
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32) == before
    names = {name for what, name in device.log if what in ('record', 'synchronize')}
    assert len(names) == 1
    assert names.pop().startswith('cuda-recorder')


def test_a_graph_is_run_and_timed_before_its_first_frame(device, segmenter):
    segmenter.prepare(SMALL)
    once = ['replay', 'synchronize']
    assert [what for what, _ in device.log] == ['synchronize', 'record', *once, *once]


def test_a_job_is_waited_for_asleep_but_for_its_last_milliseconds(device, segmenter, monkeypatch, street):
    clock = SimpleNamespace(now=0.0, slept=[])

    def sleep(seconds):
        clock.slept.append(round(seconds, 6))
        clock.now += seconds

    frame = SimpleNamespace(takes=0.010, done=0.0)  # of the device
    event = torch.cuda.Event()
    monkeypatch.setattr(captured_job, 'time', SimpleNamespace(perf_counter=lambda: clock.now, sleep=sleep))
    monkeypatch.setattr(event, 'record', lambda: setattr(frame, 'done', clock.now + frame.takes))
    monkeypatch.setattr(event, 'synchronize', lambda: setattr(clock, 'now', max(clock.now, frame.done)))
    monkeypatch.setattr(captured_job, 'SPIN_S', 0.002)

    def slept(frames=1):
        clock.slept.clear()
        for _ in range(frames):
            segmenter.segment(street)
        return clock.slept

    assert slept() == []  # how long a frame takes is not known: its recording took no time
    assert slept(captured_job.RECENT)[-1] == 0.008
    frame.takes = 0.5  # once, as when another process uses the device
    assert slept() == [0.008]
    frame.takes = 0.010
    assert slept() == [0.008]
    frame.takes = 0.003  # the clock of the device rises: one frame is late by 5 ms, and each after it by less
    assert slept(4) == [0.008, 0.006, 0.004, 0.002]
    assert slept(5) == [0.001] * 5
    frame.takes = 0.0019  # as short as what is spun
    assert slept(6) == [0.001]


def test_the_graphs_of_an_engine_share_the_memory_in_between(device, segmenter, model, street):
    for batch in (1, 2, 3):
        segmenter.segment_batch([street] * batch)
    assert len(set(device.pools)) == 1
    network, card = model
    other = CudaEngine(network, card, precision='fp32', mapped=False, triton=False)
    other.prepare(SMALL)
    assert len(set(device.pools)) == 2, 'another engine may run at the same time'


def test_a_batch_that_memory_does_not_hold_is_segmented_one_by_one(device, segmenter, monkeypatch, street):
    fail_at(monkeypatch, lambda job: job.batch > 1, torch.cuda.OutOfMemoryError('CUDA out of memory'))
    alone = segmenter.segment(street, confidence=True)
    segmenter.prepare(segmenter.job(SIZE, confidence=True, batch=2))  # no error either
    results = segmenter.segment_batch([street, street[::-1].copy(), street], confidence=True)
    for result in (results[0], results[2]):
        np.testing.assert_array_equal(result.label, alone.label)
        np.testing.assert_array_equal(result.confidence, alone.confidence)
    assert (results[1].label != alone.label).any()
    recorded = len(device.pools)
    segmenter.segment_batch([street] * 3, confidence=True)
    assert len(device.pools) == recorded, 'what did not fit is not tried again'


@pytest.mark.parametrize(
    'text',
    [
        'CUDA out of memory. Tried to allocate 2.00 GiB.',
        'cuDNN error: CUDNN_STATUS_ALLOC_FAILED',
        'cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED',
        'cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED',
        'FIND was unable to find an engine to execute this computation',
        'GET was unable to find an engine to execute this computation',
    ],
)
def test_out_of_memory_frees_what_it_can_and_the_next_frame_is_served(
    device, segmenter, monkeypatch, street, text
):
    segmenter.segment(street)
    device.free = 2**20
    with monkeypatch.context() as patch:
        fail_at(patch, lambda job: job.image_size == SMALL.image_size, RuntimeError(text))
        with pytest.raises(EngineError, match='CUDA is out of memory for 64x32: '):
            segmenter.segment(np.zeros((32, 64, 3), np.uint8))
    assert not segmenter.engine._captured
    assert device.log[-1][0] == 'empty cache'
    segmenter.segment(street)


def test_no_engine_for_a_convolution_is_not_out_of_memory_while_there_is_plenty(
    device, segmenter, monkeypatch
):
    fail_at(monkeypatch, lambda _: True, RuntimeError('FIND was unable to find an engine'))
    with pytest.raises(RuntimeError, match='FIND was unable'):
        segmenter.prepare(SMALL)


@pytest.mark.parametrize(
    'text', ['operation not permitted', 'captures_underway.empty() INTERNAL ASSERT FAILED']
)
def test_a_graph_that_cannot_be_recorded_leaves_the_others_at_work(device, segmenter, street, text):
    expected = segmenter.segment(street).label
    device.capture_error = RuntimeError(text)
    with pytest.raises(EngineError, match=r'no graph could be recorded for 64x32 .*recorded go on'):
        segmenter.segment(np.zeros((32, 64, 3), np.uint8))
    np.testing.assert_array_equal(segmenter.segment(street).label, expected)
    device.capture_error = None
    segmenter.prepare(SMALL)


def test_a_lost_device_is_reported_for_each_frame_until_it_answers(device, segmenter, monkeypatch, street):
    gone = RuntimeError('CUDA error: unspecified launch failure')
    with monkeypatch.context() as patch:
        fail_at(patch, lambda _: True, gone)
        device.sync_error = gone
        for _ in range(2):
            with pytest.raises(EngineError, match=r'the CUDA device was lost .* restart this process'):
                segmenter.segment(street)
    device.sync_error = None
    segmenter.segment(street)


def in_triton(error):
    """A function that raises an error in a module of Triton's."""
    module = {'__name__': 'triton.runtime.jit', 'error': error}
    exec('def launch(*arguments, **options):\n    raise error', module)
    return module['launch']


@pytest.fixture
def kernels(device, monkeypatch):
    """Kernels that stand in for Triton's: they read frames at their addresses, and count what they paint."""

    def frame_at(address, shape):
        memory = (ctypes.c_uint8 * int(np.prod(shape))).from_address(int(address))
        return torch.from_numpy(np.ctypeslib.as_array(memory).reshape(shape))

    def normalise(frames, *arguments):
        pixels = torch.stack([frame_at(address, frames.pixels.shape[1:]) for address in frames.addresses])
        return passes.normalise(pixels, *arguments)

    def paint(address, label, table, order, out):
        frame = frame_at(address, out.shape)
        rgb = frame.flip(2) if order == 'bgr' else frame
        out.copy_(table[label.long().unsqueeze(2), rgb.long(), torch.arange(3)])
        made.painted += 1

    names = [name for name in torch_kernels.__all__ if name != 'normalise']
    made = SimpleNamespace(**{name: getattr(torch_kernels, name) for name in names}, painted=0)
    made.normalise, made.paint = normalise, paint
    monkeypatch.setattr(cuda_engine, 'choose_kernels', lambda _: (made, 'Triton kernels'))
    return made


@pytest.fixture
def on_device(kernels, model):
    """A function that makes a segmenter with these kernels."""
    network, card = model
    return lambda **options: Segmenter(CudaEngine(network, card, precision='fp32', **options), card)


@pytest.mark.parametrize(
    'error',
    [
        RuntimeError('Triton Error [CUDA]: invalid device function'),
        FileNotFoundError('no ptxas'),
        Exception('out of resource: shared memory'),
    ],
)
def test_where_a_triton_kernel_fails_pytorchs_take_over_and_the_description_says_so(
    kernels, on_device, tiny_weights, street, error
):
    kernels.max_pool = in_triton(error)
    made = on_device(mapped=False)
    label = made.segment(street).label
    failure = f'PyTorch kernels: Triton failed at 128x96, {type(error).__name__}: {error}'
    assert failure in made.engine.description
    assert (label == Segmenter.load(tiny_weights, engine='torch').segment(street).label).mean() > 0.999


def test_memory_that_is_missing_for_a_triton_kernel_is_no_failure_of_triton(kernels, on_device, street):
    kernels.max_pool = in_triton(RuntimeError('Triton Error [CUDA]: out of memory'))
    made = on_device(mapped=False)
    with pytest.raises(EngineError, match='CUDA is out of memory for 128x96: '):
        made.segment(street)
    assert 'now PyTorch kernels' not in made.engine.description


@pytest.mark.parametrize('mapped', [False, True])
def test_frames_in_page_locked_memory_are_read_there_at_any_byte(on_device, street, mapped):
    made = on_device(mapped=mapped)
    upside_down = street[::-1].copy()
    expected = made.segment(upside_down).label
    (captured,) = made.engine._captured.values()
    message = pinned_memory.page_locked(street.nbytes + 7).numpy()[7:].reshape(street.shape)
    message[:] = upside_down
    made.segment(street)
    captured.frames.host.fill(1)
    np.testing.assert_array_equal(made.segment(message).label, expected)
    assert (captured.frames.host == 1).all()
    two = made.segment_batch([message, upside_down])  # of which one has to be copied
    np.testing.assert_array_equal(two[0].label, two[1].label)


def test_pytorchs_kernels_read_mapped_frames_in_the_jobs_own_memory(device, model, street):
    network, card = model
    made = Segmenter(CudaEngine(network, card, precision='fp32', mapped=True, triton=False), card)
    message = pinned_memory.page_locked(*street.shape).numpy()
    message[:] = street
    np.testing.assert_array_equal(made.segment(message).label, made.segment(street).label)


@pytest.mark.parametrize('mapped', [False, True])
@pytest.mark.parametrize('order', ['rgb', 'bgr'])
def test_pictures_are_painted_on_the_device_as_long_as_it_has_the_frame(
    kernels, on_device, street, mapped, order
):
    made = on_device(mapped=mapped)
    result = made.segment_batch([street[::-1].copy(), street], order=order)[1]
    result.label[:9] = 255  # as min_confidence and ignore_mask do
    by_cpu = pickle.loads(pickle.dumps(result))
    assert by_cpu.painting is None
    np.testing.assert_array_equal(result.color(), by_cpu.color())
    in_recorder(lambda: None)
    assert kernels.painted == 1, 'to compile the kernel: the CPU paints until then'
    out = np.empty_like(street)
    assert result.overlay(0.3, ['car'], out) is out
    np.testing.assert_array_equal(out, by_cpu.overlay(0.3, ['car']))
    np.testing.assert_array_equal(result.overlay(), by_cpu.overlay())
    np.testing.assert_array_equal(result.color(), by_cpu.color())
    assert kernels.painted == 4
    made.segment(street)
    np.testing.assert_array_equal(result.overlay(), by_cpu.overlay())
    assert kernels.painted == 4
    alive = weakref.ref(made.engine)
    del made
    gc.collect()
    assert alive() is None
    np.testing.assert_array_equal(result.overlay(), by_cpu.overlay())


def test_where_the_device_cannot_paint_the_cpu_does_and_the_description_says_so(kernels, on_device, street):
    kernels.paint = in_triton(Exception('out of resource: shared memory'))
    made = on_device(mapped=False)
    for _ in range(2):
        result = made.segment(street)
        np.testing.assert_array_equal(result.overlay(), replace(result, painting=None).overlay())
        in_recorder(lambda: None)
    assert made.engine.description.count('now overlays are painted on the CPU: Exception: out of') == 1


def test_a_closed_engine_keeps_no_memory_though_something_still_refers_to_it(device, segmenter, street):
    segmenter.segment(street)
    gc.freeze()
    try:
        segmenter.close()
        in_recorder(lambda: None)  # until its turn has come
    finally:
        gc.unfreeze()
    engine = segmenter.engine
    assert not engine._captured
    assert sum(tensor.numel() for tensor in (*engine._network.parameters(), *engine._network.buffers())) == 0
    assert device.log[-1][0] == 'empty cache'


@pytest.mark.parametrize(('mapped_ms', 'chosen'), [(1.0, 'frames in mapped memory'), (3.0, 'staged frames')])
def test_frames_are_read_in_place_where_that_is_faster(device, model, monkeypatch, street, mapped_ms, chosen):
    class Timed(Replaying):
        def __init__(self, *args, mapped, **options):
            self.ms = mapped_ms if mapped else 2.0
            super().__init__(*args, mapped=mapped, **options)

        def median_ms(self, frames):
            assert super().median_ms(frames) > 0
            return self.ms

    monkeypatch.setattr(cuda_engine, 'CapturedJob', Timed)
    network, card = model
    engine = CudaEngine(network, card, precision='fp32', triton=False)
    Segmenter(engine, card).segment(street)
    assert chosen in engine.description
    assert len(device.pools) == 2
    engine.prepare(SMALL)
    assert len(device.pools) == 3, 'decided once'
