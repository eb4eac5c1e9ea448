# SPDX-License-Identifier: Apache-2.0
"""Every engine gives the labels and the confidence that the definition gives."""

import os
import platform
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.inference.engine import EngineError, Job
from lw_refinenet_ros.inference.passes import classify, normalise
from lw_refinenet_ros.model.weights import load_model

# With the agreement to be reached; an untrained network is seldom sure, and half precision tips its scales.
ENGINES = [
    ('torch', 'cpu', 'fp32', 1.0),
    ('torch', 'cpu', 'bf16', 0.93),
    ('openvino', 'cpu', 'fp32', 0.9999),
    ('openvino', 'cpu', 'auto', 0.93),
    ('torch', 'cuda', 'fp16', 0.97),
]

TIE = 1e-5  # of two logits; street, and so whether there is one, depends on how OpenCV was built


def defined(weights, image, network_size=None):
    """Label and confidence by their definition, step by step; and where float32 can tell the label."""
    network, card = load_model(weights)
    x = torch.from_numpy(image).permute(2, 0, 1)[None].double()
    if network_size:
        x = functional.interpolate(x, size=network_size, mode='bilinear', align_corners=False)
    mean, std = (torch.tensor(v).double().view(1, 3, 1, 1) for v in (card.mean, card.std))
    with torch.no_grad():
        logits = network.double()((x / 255 - mean) / std)
    logits = functional.interpolate(logits, size=image.shape[:2], mode='bilinear', align_corners=False)[0]
    confidence = (logits / card.temperature).softmax(0).amax(0)
    first, second = logits.topk(2, 0).values
    return logits.argmax(0).numpy(), (255 * confidence).round().numpy(), (first - second > TIE).numpy()


@pytest.fixture(params=ENGINES, ids=lambda e: '-'.join(map(str, e[:3])))
def engine(request, tiny_weights):
    name, device, precision, agreement = request.param
    if device == 'cuda' and not torch.cuda.is_available():
        pytest.skip('no CUDA device')
    pytest.importorskip(name)
    return Segmenter.load(str(tiny_weights), engine=name, device=device, precision=precision), agreement


@pytest.mark.parametrize('shape', [(96, 128), (97, 131), (33, 57)])
def test_label_and_confidence_are_as_defined_at_any_size(engine, tiny_weights, street, shape):
    segmenter, agreement = engine
    image = np.ascontiguousarray(np.resize(street, (*shape, 3)))
    image[: min(shape[0], 96), : min(shape[1], 128)] = street[: shape[0], : shape[1]]
    label, confidence, clear = defined(tiny_weights, image)
    result = segmenter.segment(image, confidence=True)
    assert clear.mean() > 0.999
    assert (result.label == label)[clear].mean() >= agreement
    assert np.abs(result.confidence - confidence).mean() <= (0.6 if agreement > 0.99 else 4)


def test_the_network_may_see_another_size_than_the_image(engine, tiny_weights, street):
    segmenter, agreement = engine
    label, _, _ = defined(tiny_weights, street, (48, 80))
    # A resized image may be off by one step of 255 (docs/fast_path.md), and an untrained network is unsure.
    seen = segmenter.segment(street, network_size=(48, 80)).label
    assert (seen == label).mean() >= min(agreement, 0.96)


@pytest.mark.parametrize('size', [(144, 170), (48, 64), (41, 77), (7, 300)])
def test_a_resized_image_is_within_one_step_of_the_definition(tiny_weights, street, size):
    pytest.importorskip('openvino')
    engine = Segmenter.load(str(tiny_weights), engine='openvino').engine
    resized = engine._input(Job((96, 128), size), [street])[0]
    x = torch.from_numpy(street).permute(2, 0, 1)[None].double()
    defined_as = functional.interpolate(x, size=size, mode='bilinear', align_corners=False)[0]
    assert np.abs(resized - defined_as.permute(1, 2, 0).numpy()).max() <= 1


def test_resized_pixels_and_confidences_are_the_nearest_bytes(street):
    frames = torch.from_numpy(street)[None]
    zeros, ones = torch.zeros(3), torch.ones(3)
    found = normalise(frames, (61, 77), 'bgr', zeros, ones, torch.float32).double()
    exact = functional.interpolate(
        frames.permute(0, 3, 1, 2).flip(1).double(), size=(61, 77), mode='bilinear', align_corners=False
    )
    assert torch.equal(found, found.round())
    assert (found - exact).abs().max() < 0.501
    logits = torch.randn(1, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    sure = (logits / 0.7).softmax(1).amax(1)
    assert (classify(logits, 0.7)[1] - 255 * sure).abs().max() < 0.501


def test_channel_order_strides_and_read_only_memory_do_not_matter(engine, street):
    segmenter, _ = engine
    expected = segmenter.segment(street).label
    message = np.frombuffer(street.tobytes(), np.uint8).reshape(street.shape)
    assert not message.flags.writeable
    np.testing.assert_array_equal(segmenter.segment(message).label, expected)
    reversed_channels = np.ascontiguousarray(street[..., ::-1])
    np.testing.assert_array_equal(segmenter.segment(reversed_channels, order='bgr').label, expected)
    wider = np.zeros((96, 200, 3), np.uint8)
    wider[:, :128] = street
    np.testing.assert_array_equal(segmenter.segment(wider[:, :128]).label, expected)


def test_the_label_is_written_where_the_caller_wants_it(engine, street):
    segmenter, _ = engine
    memory = np.full((96, 128), 77, np.uint8)
    result = segmenter.segment(street, out=memory)
    assert result.label is memory
    np.testing.assert_array_equal(memory, segmenter.segment(street).label)


@pytest.mark.parametrize('size', [(96, 128), (61, 83)])
def test_a_batch_gives_each_image_what_it_gets_alone(engine, street, size):
    segmenter, agreement = engine
    images = [
        np.ascontiguousarray(picture[: size[0], : size[1]])
        for picture in (street, street[::-1], 255 - street)
    ]
    images[1].flags.writeable = False  # as a message's bytes are
    outs = [np.full(size, 77, np.uint8) for _ in images]
    batch = segmenter.segment_batch(images, confidence=True, outs=outs)
    for image, out, result in zip(images, outs, batch):
        alone = segmenter.segment(image, confidence=True)
        assert result.label is out
        assert result.image is image
        assert (result.label == alone.label).mean() >= max(agreement, 0.99)
        assert np.abs(result.confidence.astype(int) - alone.confidence).mean() < 0.6
    assert (outs[0] != outs[2]).mean() > 0.05


@pytest.mark.parametrize(
    ('images', 'outs', 'said'),
    [
        ([], None, 'no images'),
        ([(4, 5), (4, 6)], None, 'a batch has images of 6x4 and 5x4'),
        ([(4, 5), (4, 5)], [(4, 5)], '1 outs for 2 images'),
        ([(4, 5)], [(5, 4)], r'out is uint8 \(5, 4\)'),
    ],
)
def test_a_batch_that_does_not_fit_together_is_refused(tiny_weights, images, outs, said):
    segmenter = Segmenter.load(str(tiny_weights), engine='torch')
    with pytest.raises(ValueError, match=said):
        segmenter.segment_batch(
            [np.zeros((*size, 3), np.uint8) for size in images],
            outs=outs and [np.zeros(size, np.uint8) for size in outs],
        )


@pytest.mark.skipif(not hasattr(os, 'sched_getaffinity'), reason='needs Linux')
def test_the_threads_at_work_may_run_on_any_core(tiny_weights, street):
    """Bound to cores, two nodes of one thread would share the first, at half the speed."""
    pytest.importorskip('openvino')
    segmenter = Segmenter.load(str(tiny_weights), engine='openvino', threads=1)
    segmenter.segment(street)  # while it compiles, a thread may bind itself for a moment
    any_core, seen, ended = os.sched_getaffinity(0), set(), threading.Event()

    def watch():
        while not ended.is_set():
            for thread in Path('/proc/self/task').iterdir():
                with suppress(ProcessLookupError):
                    seen.add(frozenset(os.sched_getaffinity(int(thread.name))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(50):
        segmenter.segment(street)
    ended.set()
    watcher.join()
    assert seen == {frozenset(any_core)}


SEGMENT = """
import locale, sys
import numpy as np
from lw_refinenet_ros import Segmenter
turkish = locale.setlocale(locale.LC_ALL, 'tr_TR.UTF-8')
segmenter = Segmenter.load(sys.argv[1], engine='openvino', precision='fp32')
label = segmenter.segment(np.zeros((64, 64, 3), np.uint8)).label
print(label.shape, locale.setlocale(locale.LC_ALL) == turkish)
"""


def test_openvino_runs_in_a_turkish_locale_where_i_is_not_the_small_letter_of_capital_i(
    tmp_path, tiny_weights
):
    pytest.importorskip('openvino')
    made = [shutil.which('localedef'), '-i', 'tr_TR', '-f', 'UTF-8', tmp_path / 'tr_TR.UTF-8']
    if made[0] is None or subprocess.run(made, capture_output=True, check=False).returncode:
        pytest.skip('no Turkish locale can be made here')
    done = subprocess.run(
        [sys.executable, '-c', SEGMENT, tiny_weights],
        env=os.environ | {'LOCPATH': str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == '(64, 64) True\n', done.stderr


def test_nnpack_which_complains_at_every_convolution_is_off_where_it_cannot_work(tiny_weights):
    if platform.machine() != 'x86_64':
        pytest.skip('NNPACK needs AVX2 on x86 only')
    code = (
        'import sys, torch; from lw_refinenet_ros import Segmenter; '
        "Segmenter.load(sys.argv[1], engine='torch', device='cpu'); "
        'print(torch.backends.cpu.get_cpu_capability(), torch._C._get_nnpack_enabled())'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, tiny_weights],
        env=os.environ | {'ATEN_CPU_CAPABILITY': 'default'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == 'DEFAULT False\n', done.stderr


def test_many_sizes_in_turn_keep_only_a_few_compiled_graphs(tiny_weights, street):
    pytest.importorskip('openvino')
    segmenter = Segmenter.load(str(tiny_weights), engine='openvino')
    for width in range(32, 128, 8):
        segmenter.segment(np.ascontiguousarray(street[:, :width]))
    assert len(segmenter.engine._compiled) <= 8


@pytest.mark.parametrize(
    ('image', 'said'),
    [
        (np.zeros((4, 4, 3), np.float32), 'float32'),
        (np.zeros((0, 4, 3), np.uint8), '4x0'),
        (np.zeros((1, 20000, 3), np.uint8), '20000x1'),
    ],
)
def test_an_image_that_is_none_is_refused(tiny_weights, image, said):
    segmenter = Segmenter.load(str(tiny_weights), engine='torch')
    with pytest.raises(ValueError, match=said):
        segmenter.segment(image)


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        ({'device': 'tpu'}, "device 'tpu' is unknown: choose one of auto, cuda, cpu"),
        ({'engine': 'tensorrt'}, "engine 'tensorrt' is unknown"),
        ({'precision': 'int4'}, "precision 'int4' is unknown"),
        ({'threads': -1}, 'threads=-1'),
        ({'engine': 'openvino', 'precision': 'fp16'}, "precision 'fp16'"),
        ({'engine': 'torch', 'device': 'cpu', 'precision': 'fp16'}, "'fp16' does not run on 'cpu'"),
    ],
)
def test_what_this_machine_cannot_do_is_refused_with_what_it_can(monkeypatch, tiny_weights, options, said):
    if options.get('engine') == 'openvino':
        pytest.importorskip('openvino')
    monkeypatch.setattr('platform.machine', lambda: 'x86_64')  # only elsewhere, OpenVINO has fp16
    with pytest.raises(EngineError) as caught:
        Segmenter.load(str(tiny_weights), **options)
    assert said in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a CUDA device')
def test_cuda_is_never_replaced_by_something_else(tiny_weights):
    with pytest.raises(EngineError, match='no CUDA device'):
        Segmenter.load(str(tiny_weights), device='cuda')


def test_weights_are_found_by_name_or_said_to_be_missing():
    assert Segmenter.load().labels.names[0] == 'sky'
    with pytest.raises(ValueError, match="unknown weights 'mars': choose one of camvid, "):
        Segmenter.load('mars')
