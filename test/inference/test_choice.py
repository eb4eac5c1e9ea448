# SPDX-License-Identifier: Apache-2.0
"""Which engine 'auto' takes, on machines of every kind: none of them has to be here."""

import pytest

from lw_refinenet_ros.inference.choice import Here, choose
from lw_refinenet_ros.inference.engine import EngineError
from lw_refinenet_ros.inference.measured import Choice
from lw_refinenet_ros.labels import LabelSet
from lw_refinenet_ros.model.weights import Card

ANY = Choice('auto', 'auto', 'auto')
OLD = Here(cuda=False, openvino=frozenset({'fp32', 'int8'}))
BF16 = Here(cuda=False, openvino=frozenset({'fp32', 'bf16', 'int8'}))
GPU = Here(cuda=True, openvino=BF16.openvino)
BARE = Here(cuda=False, openvino=frozenset())
FP32 = Choice('openvino', 'cpu', 'fp32')
INT8 = FP32._replace(precision='int8')
TORCH = Choice('torch', 'cpu', 'fp32')

LABELS = LabelSet('one', ('road',), ((0, 0, 0),))


def card(**accuracy):
    quantization = {'activations': [], 'weights': ['a']}
    if accuracy:
        quantization['accuracy'] = {'frames': 9, **accuracy}
    return Card('any', 8, LABELS, (0, 0, 0), (1, 1, 1), quantization=quantization)


FLOAT = Card('any', 8, LABELS, (0, 0, 0), (1, 1, 1))
GOOD = card(agreement=0.995)


@pytest.mark.parametrize(
    ('here', 'weights', 'taken', 'why'),
    [
        (BARE, FLOAT, TORCH, 'the default there'),
        (OLD, FLOAT, FP32, 'no native bf16'),
        (BF16, FLOAT, FP32._replace(precision='bf16'), 'native here'),
        (GPU, FLOAT, Choice('torch', 'cuda', 'fp16'), 'the default there'),
        (BARE, GOOD, TORCH, 'the default there'),
        (
            OLD,
            GOOD,
            INT8,
            "no native bf16, and int8 gives float32's label on 99.50% of the pixels",
        ),
        (BF16, GOOD, FP32._replace(precision='bf16'), 'native here'),
        (GPU, GOOD, Choice('torch', 'cuda', 'fp16'), 'the default there'),
    ],
)
def test_auto_takes_what_is_usually_the_fastest(here, weights, taken, why):
    assert choose(ANY, weights, here) == (taken, why)


@pytest.mark.parametrize(
    ('weights', 'said'),
    [
        (card(agreement=0.955), "it gives float32's label on 95.50% of the pixels, less than 98%"),
        (
            card(agreement=0.999, miou=0.73, float_miou=0.74),
            '73.0% instead of 74.0%, more than 0.5 points less',
        ),
        (card(), 'its accuracy was not measured; `lw_refinenet quantize` does'),
    ],
)
def test_int8_that_loses_too_much_is_left_for_float_and_the_figure_is_said(weights, said):
    choice, why = choose(ANY, weights, OLD)
    assert choice == FP32
    assert why.startswith('no native bf16; int8 is not used: ')
    assert why.endswith(said)
    assert choose(ANY._replace(precision='int8'), weights, OLD)[0] == INT8  # asked for


def test_int8_that_loses_little_serves():
    assert choose(ANY, card(agreement=0.99, miou=0.736, float_miou=0.74), OLD)[0] == INT8


def test_what_was_measured_comes_before_what_is_usual_and_what_is_asked_for_before_both():
    measured = Here(OLD.cuda, OLD.openvino, [INT8, TORCH, FP32])
    fastest = 'the fastest here by `lw_refinenet benchmark --save`'
    assert choose(ANY, GOOD, measured) == (INT8, fastest)
    assert choose(ANY, FLOAT, measured) == (TORCH, fastest)
    assert choose(ANY._replace(engine='openvino'), FLOAT, measured) == (FP32, f'{fastest}, of openvino')
    choice, why = choose(ANY, card(agreement=0.9), measured)
    assert choice == TORCH
    assert why.startswith(f'{fastest}; int8 is not used: ')
    assert '90.00%' in why
    assert choose(FP32, GOOD, measured) == (FP32, 'asked for')
    assert choose(ANY._replace(precision='bf16'), FLOAT, measured)[0] == FP32._replace(precision='bf16')


def test_a_measured_int8_is_not_taken_where_bf16_is_native():
    bf16 = FP32._replace(precision='bf16')
    assert choose(ANY, GOOD, Here(BF16.cuda, BF16.openvino, [INT8, bf16]))[0] == bf16


def test_on_another_processor_than_x86_there_is_no_int8(monkeypatch):
    pytest.importorskip('openvino')
    from lw_refinenet_ros.inference.openvino_engine import native_precisions

    monkeypatch.setattr('platform.machine', lambda: 'aarch64')
    arm = Here(cuda=False, openvino=native_precisions() - {'bf16'})
    choice, why = choose(ANY, GOOD, arm)
    assert choice == FP32
    assert why.endswith('int8 is not used: it runs in OpenVINO on x86 only')
    with pytest.raises(EngineError, match="not on this machine: use precision 'auto', which takes the float"):
        choose(INT8, GOOD, arm)


def test_fp16_of_a_cpu_is_taken_where_it_is_asked_for_or_was_measured():
    arm = Here(cuda=False, openvino=frozenset({'fp32', 'fp16'}))
    fp16 = FP32._replace(precision='fp16')
    assert choose(ANY, FLOAT, arm)[0] == FP32
    assert choose(ANY._replace(precision='fp16'), FLOAT, arm)[0] == fp16
    assert choose(ANY, FLOAT, Here(arm.cuda, arm.openvino, [fp16, FP32]))[0] == fp16


@pytest.mark.parametrize(
    ('wanted', 'here'),
    [
        (ANY._replace(engine='torch', precision='int8'), OLD),
        (ANY._replace(device='cuda', precision='int8'), GPU),
        (ANY._replace(precision='int8'), BARE),
    ],
)
def test_an_engine_that_cannot_use_the_ranges_refuses_int8_and_runs_the_float_weights(wanted, here):
    refusal = "precision 'int8' runs in OpenVINO on an x86 CPU, not on "
    with pytest.raises(EngineError, match=refusal) as caught:
        choose(wanted, GOOD, here)
    assert '\n' not in str(caught.value)
    assert choose(wanted._replace(precision='auto'), GOOD, here)[0].precision != 'int8'


def test_int8_is_found_beside_a_gpu():
    assert choose(ANY._replace(precision='int8'), GOOD, GPU)[0] == INT8


@pytest.mark.parametrize(
    ('wanted', 'here', 'said'),
    [
        (ANY._replace(precision='int8'), OLD, 'run `lw_refinenet quantize`'),
        (ANY._replace(device='cuda'), OLD, 'PyTorch finds no CUDA device'),
        (ANY._replace(engine='openvino'), BARE, "engine 'openvino' is not installed"),
        (ANY._replace(engine='openvino', device='cuda'), GPU, "engine 'openvino' does not run on 'cuda'"),
        (ANY._replace(engine='tensorrt'), OLD, "engine 'tensorrt' is unknown"),
    ],
)
def test_what_a_machine_cannot_do_is_refused_with_the_remedy(wanted, here, said):
    with pytest.raises(EngineError, match=said):
        choose(wanted, FLOAT, here)
