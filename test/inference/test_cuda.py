# SPDX-License-Identifier: Apache-2.0
"""The engine on a CUDA device: labels as on the CPU in float32, one graph per job, errors survived.

All that a session with a GPU has to run is in `benchmark/cuda.py`.
"""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from lw_refinenet_ros.image.painting import blend_table
from lw_refinenet_ros.inference.cuda import engine as cuda_engine
from lw_refinenet_ros.inference.cuda.captured_job import in_recorder
from lw_refinenet_ros.inference.cuda.engine import CudaEngine
from lw_refinenet_ros.inference.cuda.failures import is_out_of_memory
from lw_refinenet_ros.inference.cuda.pinned_memory import page_locked
from lw_refinenet_ros.inference.engine import EngineError, Job
from lw_refinenet_ros.inference.segmenter import Segmenter
from lw_refinenet_ros.inference.torch_engine import TorchEngine
from lw_refinenet_ros.model.weights import load_model

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')

SIZE = (480, 640)
JOB = Job(SIZE, SIZE)
STREET = Path(__file__).parents[2] / 'docs' / 'street.jpg'
# Labels that agree, and how far confidences are apart (of 255), over pictures that the network is sure of
# (222 on average). The same passes in that precision on a CPU gave 0.9990 and 0.24 in fp16, 0.989 and 2.4 in
# bf16, whether sums are rounded once or after each term.
AGREEMENT = {'fp16': 0.997, 'bf16': 0.98, 'fp32': 0.9999}
CONFIDENCE = {'fp16': 0.6, 'bf16': 4.0, 'fp32': 0.3}


@pytest.fixture(scope='module')
def trained():
    """The shipped network, its card, and what the CPU says in float32 of some pictures."""
    network, card = load_model('camvid')
    street = cv2.resize(cv2.imread(str(STREET)), SIZE[::-1], interpolation=cv2.INTER_AREA)[..., ::-1]
    pictures = [street.copy(), street[:, ::-1].copy(), cv2.convertScaleAbs(street.copy(), alpha=0.7)]
    reference = Segmenter(TorchEngine(network, card, device='cpu', precision='fp32', threads=0), card)
    return SimpleNamespace(
        network=network,
        card=card,
        pictures=pictures,
        expected=[reference.segment(picture, confidence=True) for picture in pictures],
    )


@pytest.fixture
def engine(trained):
    """A function that makes an engine, and one whose memory goes back at the end."""

    def make(**options):
        return CudaEngine(trained.network, trained.card, **options)

    yield make
    torch.cuda.empty_cache()


@needs_cuda
@pytest.mark.parametrize('triton', [True, False], ids=['triton', 'torch'])
@pytest.mark.parametrize('mapped', [False, True], ids=['staged', 'mapped'])
@pytest.mark.parametrize('precision', ['fp16', 'bf16', 'fp32'])
def test_labels_agree_with_the_cpu_in_float32(trained, engine, precision, mapped, triton):
    if precision == 'bf16' and torch.cuda.get_device_capability()[0] < 8:
        pytest.skip('this GPU has no bf16')
    made = engine(precision=precision, mapped=mapped, triton=triton)
    segmenter = Segmenter(made, trained.card)
    assert ('Triton kernels' in made.description) <= triton
    agreement, distance = [], []
    for picture, expected in zip(trained.pictures, trained.expected):
        result = segmenter.segment(picture, confidence=True)
        agreement.append((result.label == expected.label).mean())
        distance.append(np.abs(result.confidence.astype(int) - expected.confidence).mean())
        alone = segmenter.segment(picture)
        np.testing.assert_array_equal(alone.label, result.label)
        assert alone.confidence is None
    assert np.mean(agreement) >= AGREEMENT[precision]
    assert np.mean(distance) <= CONFIDENCE[precision]


@needs_cuda
@pytest.mark.parametrize('network_size', [(0, 0), (160, 224)])
def test_a_batch_gives_each_image_what_it_gets_alone(trained, engine, network_size):
    segmenter = Segmenter(engine(), trained.card)
    options = {'order': 'bgr', 'network_size': network_size, 'confidence': True}
    batch = segmenter.segment_batch(trained.pictures, **options)
    for picture, together in zip(trained.pictures, batch):
        alone = segmenter.segment(picture, **options)
        assert (together.label == alone.label).mean() >= AGREEMENT['fp16']
        assert np.abs(together.confidence.astype(int) - alone.confidence).mean() <= CONFIDENCE['fp16']


@needs_cuda
def test_one_graph_and_its_buffers_serve_every_frame_of_a_job(trained, engine):
    made = engine()
    segmenter = Segmenter(made, trained.card)

    def addresses():
        captured = made._captured[JOB]
        return id(captured), captured.frames.host.ctypes.data, captured.labels.device.data_ptr()

    first = segmenter.segment(trained.pictures[0])
    before, memory = addresses(), torch.cuda.memory_allocated()
    segmenter.segment(trained.pictures[1])
    again = segmenter.segment(trained.pictures[0])
    np.testing.assert_array_equal(again.label, first.label)
    assert addresses() == before
    assert torch.cuda.memory_allocated() == memory
    assert list(made._captured) == [JOB]
    assert made._captured[JOB].confidences is None


@needs_cuda
def test_mapped_memory_is_the_same_for_host_and_device(engine):
    made = engine(mapped=True)
    made.prepare(JOB)
    captured = made._captured[JOB]
    for staging in (captured.frames, captured.labels):
        assert staging.device.is_cuda
        assert staging.device.data_ptr() == staging.host.ctypes.data
    captured.frames.host.fill(3)
    assert int(captured.frames.device.sum()) == 3 * captured.frames.host.size


@needs_cuda
@pytest.mark.parametrize('mapped', [False, True], ids=['staged', 'mapped'])
def test_page_locked_frames_are_read_at_any_byte_and_painted_on_the_device(trained, engine, mapped):
    segmenter = Segmenter(engine(mapped=mapped), trained.card)
    picture = trained.pictures[0]
    message = page_locked(picture.nbytes + 37).numpy()[37:].reshape(picture.shape)
    message[:] = picture
    result = segmenter.segment(message)
    np.testing.assert_array_equal(result.label, segmenter.segment(picture).label)
    by_cpu = replace(result, painting=None)
    for _ in range(2):  # the CPU, until the device can
        result = segmenter.segment(message)
        result.label[:9] = 255
        by_cpu.label[:9] = 255
        np.testing.assert_array_equal(result.overlay(0.3, ['road']), by_cpu.overlay(0.3, ['road']))
        np.testing.assert_array_equal(result.color(), by_cpu.color())
        in_recorder(lambda: None)
    out = np.empty_like(picture)
    if 'Triton kernels' in segmenter.engine.description:
        assert result.painting(result.label, blend_table(trained.card.labels), out)
        np.testing.assert_array_equal(out, by_cpu.color())


@needs_cuda
def test_only_a_few_graphs_are_kept_and_the_memory_of_others_goes_back(engine):
    made = engine()
    sizes = [(64, 64 + 32 * index) for index in range(cuda_engine.KEPT_JOBS + 2)]
    jobs = [Job(size, size) for size in sizes]
    for job in jobs[:-2]:
        made.prepare(job)
    made.prepare(jobs[0])  # used again: it stays
    for job in jobs[-2:]:
        made.prepare(job)
    assert list(made._captured) == [*jobs[3:-2], jobs[0], *jobs[-2:]]
    kept = torch.cuda.memory_reserved()
    made.close()
    in_recorder(lambda: None)
    assert torch.cuda.memory_reserved() < kept


@needs_cuda
def test_out_of_memory_costs_one_frame_and_the_next_is_served(trained, engine):
    made = engine()
    segmenter = Segmenter(made, trained.card)
    expected = segmenter.segment(trained.pictures[0]).label
    total = torch.cuda.mem_get_info()[1]
    # What PyTorch may take of this GPU: what it has by now, and not enough for a frame of 16 megapixels
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 256 * 2**20) / total)
    try:
        with pytest.raises(EngineError, match='CUDA is out of memory for 4096x4096'):
            segmenter.segment(np.zeros((4096, 4096, 3), np.uint8))
        assert not made._captured
        np.testing.assert_array_equal(segmenter.segment(trained.pictures[0]).label, expected)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@needs_cuda
def test_a_model_is_warmed_up_beside_one_that_serves(trained, engine):
    import threading

    serving, next_one = Segmenter(engine(), trained.card), engine()
    expected = serving.segment(trained.pictures[0]).label
    thread = threading.Thread(target=next_one.prepare, args=(JOB,))
    thread.start()
    served = 0
    while thread.is_alive() or not served:
        np.testing.assert_array_equal(serving.segment(trained.pictures[0]).label, expected)
        served += 1
    thread.join()
    assert JOB in next_one._captured
    for _ in range(20):  # what was recorded does not end with the thread that asked for it
        label = Segmenter(next_one, trained.card).segment(trained.pictures[0]).label
        np.testing.assert_array_equal(label, expected)


LOST_DEVICE = """
import sys, numpy, torch
from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.inference.engine import EngineError
segmenter = Segmenter.load('camvid', device='cuda')
image = numpy.zeros((64, 64, 3), numpy.uint8)
segmenter.segment(image)
# Nothing but this reaches the device out of its memory: every later call fails alike
torch.zeros(4, device='cuda')[torch.tensor([10**6], device='cuda')]
for attempt in range(3):
    try:
        segmenter.segment(image)
    except EngineError as error:
        print('said:', error)
sys.stdout.flush()
import os; os._exit(0)
"""


@needs_cuda
def test_a_lost_device_is_said_to_be_lost_frame_by_frame():
    import subprocess
    import sys

    done = subprocess.run([sys.executable, '-c', LOST_DEVICE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('said: the CUDA device was lost') == 3, done.stdout


@needs_cuda
@pytest.mark.parametrize('precision', ['int8', 'fp64'])
def test_a_precision_that_cuda_lacks_is_refused(engine, precision):
    with pytest.raises(EngineError, match=f"precision '{precision}' does not run on 'cuda'"):
        engine(precision=precision)


@pytest.mark.parametrize(
    ('error', 'out_of_memory'),
    [
        (torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.'), True),
        (RuntimeError('CUDA error: out of memory'), True),
        (RuntimeError('cuDNN error: CUDNN_STATUS_ALLOC_FAILED'), True),
        (RuntimeError('cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED'), True),
        (RuntimeError('CUDA error: an illegal memory access was encountered'), False),
        (None, False),
    ],
)
def test_errors_of_memory_are_told_from_others(error, out_of_memory):
    assert is_out_of_memory(error) == out_of_memory
    later = RuntimeError('CUDA error: operation failed due to a previous error during capture')
    later.__context__ = error
    assert is_out_of_memory(later) == out_of_memory
