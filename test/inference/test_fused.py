# SPDX-License-Identifier: Apache-2.0
"""The passes around a network that run on a CUDA device, in plain PyTorch and as Triton kernels.

Without a CUDA device the kernels are run by Triton's interpreter and compiled by its compiler, where triton
is installed.
"""

import importlib.util
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from lw_refinenet_ros.image.painting import blend_table, paint_label, paint_overlay
from lw_refinenet_ros.inference.cuda import torch_kernels
from lw_refinenet_ros.inference.cuda.fusion import fuse
from lw_refinenet_ros.inference.cuda.kernels import choose_kernels
from lw_refinenet_ros.inference.cuda.pinned_memory import Frames
from lw_refinenet_ros.labels import LabelSet
from lw_refinenet_ros.model.network import build_model
from lw_refinenet_ros.model.rewrite import rewrite_for_inference

HAS_TRITON = importlib.util.find_spec('triton') is not None
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
RUNS_TRITON = HAS_TRITON and (DEVICE == 'cuda' or os.environ.get('TRITON_INTERPRET') == '1')


@pytest.fixture(params=['torch', 'triton'])
def kernels(request):
    """Both sets of kernels."""
    if request.param == 'torch':
        return torch_kernels
    if not RUNS_TRITON:
        pytest.skip('no CUDA device; see the test with the interpreter' if HAS_TRITON else 'no triton')
    from lw_refinenet_ros.inference.cuda import triton_launch

    return triton_launch


def maps(*shape, dtype=torch.float32):
    torch.manual_seed(0)
    return torch.randn(shape, device=DEVICE).to(dtype, memory_format=torch.channels_last)


class Doubled(nn.Module):
    """Adds a convolution's result to itself."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        y = self.convolution(x)
        return torch.relu(y + y)


@torch.no_grad()
def test_a_sum_of_a_map_with_itself_is_not_fused():
    torch.manual_seed(0)
    network, x = Doubled().eval(), torch.randn(1, 3, 5, 6)
    pure = SimpleNamespace(
        finish=lambda x, bias, others, low, high: sum(others, x + bias.view(-1, 1, 1)).clamp(low, high)
    )
    fused = fuse(rewrite_for_inference(network), pure)
    torch.testing.assert_close(fused(x.clone()), network(x))


class Shared(nn.Module):
    """Adds up maps that are needed again."""

    def __init__(self):
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(3, 4, 3, padding=1, bias=index > 1) for index in range(4))

    def forward(self, x):
        a, b, c, d = (convolution(x) for convolution in self.convolutions)
        total = a + b
        again = torch.relu(b + c + a)
        return total + again + d + a + b + torch.relu(a + d) + (total + c)


@torch.no_grad()
def test_a_map_that_is_needed_again_is_not_overwritten():
    torch.manual_seed(0)
    network, x = Shared().eval(), torch.randn(1, 3, 5, 6)
    fused = fuse(rewrite_for_inference(network), torch_kernels)
    assert sum(node.target is torch_kernels.finish for node in fused.graph.nodes) > 2
    torch.testing.assert_close(fused(x.clone()), network(x))


def scattered(pixels):
    """Frames at odd bytes of a larger memory, as in messages, and not one behind the other."""
    memory = torch.zeros(3 * pixels.numel(), dtype=torch.uint8, device=pixels.device)
    addresses = []
    for index, frame in enumerate(pixels.flip(0)):
        place = memory[2 * index * frame.numel() + 3 :][: frame.numel()]
        place.copy_(frame.flatten())
        addresses.insert(0, place.data_ptr())
    return memory, Frames(pixels, torch.tensor(addresses, device=pixels.device))


@pytest.mark.parametrize('order', ['rgb', 'bgr'])
@pytest.mark.parametrize('size', [(5, 7), (3, 4), (6, 11)])
def test_bytes_are_resized_reordered_and_normalised_in_one_pass_where_they_lie(kernels, size, order):
    torch.manual_seed(0)
    frames = torch.randint(0, 256, (2, 5, 7, 3), dtype=torch.uint8, device=DEVICE)
    memory, places = scattered(frames)
    mean, std = torch.tensor([120.0, 110, 100], device=DEVICE), torch.tensor([60.0, 61, 62], device=DEVICE)
    result = kernels.normalise(places, size, order, mean, std, torch.float32)
    rgb = (frames if order == 'rgb' else frames.flip(3)).permute(0, 3, 1, 2).double()
    resized = (functional.interpolate(rgb, size=size, mode='bilinear', align_corners=False) + 0.5).floor()
    expected = (resized - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    steps = ((result - expected) * std.view(3, 1, 1)).abs()
    assert (steps > 0.01).double().mean() < 0.1  # where the exact value lies half-way, rounding may differ
    assert steps.max() < 1.01
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert memory.any()  # and alive


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
@pytest.mark.parametrize('size', [(5, 6), (9, 1)])
@pytest.mark.parametrize(('kernel', 'stride', 'padding'), [(5, 1, 2), (3, 2, 1)])
def test_pooling_without_indices_pools_alike(kernels, kernel, stride, padding, size, dtype):
    x = maps(2, 20, *size, dtype=dtype) - 5  # below the zeros that a wrong padding would add
    result = kernels.max_pool(x, kernel, stride=stride, padding=padding)
    expected = functional.max_pool2d(x.float(), kernel, stride=stride, padding=padding)
    assert torch.equal(result.float(), expected)
    assert result.dtype == dtype
    assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(('others', 'channels'), [(0, 24), (1, 20), (4, 24)])  # 24: eight biases in one load
@pytest.mark.parametrize(('low', 'high'), [(0.0, 6.0), (0.0, torch.inf), (-torch.inf, torch.inf)])
def test_bias_sums_and_clipping_are_one_pass(kernels, low, high, others, channels):
    x, bias = maps(2, channels, 5, 6), maps(channels, 1, 1, 1).flatten() * 4
    summands = tuple(maps(2, channels, 5, 6).roll(shift, 1) for shift in range(others))
    for added in (bias, None)[: 1 + bool(others)]:
        result = x.clone()
        expected = x if added is None else x + added.view(-1, 1, 1)
        for summand in summands:
            expected = expected + summand
        finished = kernels.finish(result, added, summands, low, high)
        assert torch.equal(finished, expected.clamp(low, high))  # added in this order
        assert torch.equal(result, x if added is None else finished)


def test_a_sum_in_half_precision_is_rounded_once_by_triton(kernels):
    terms = [maps(1, 8, 5, 6, dtype=torch.float16).roll(shift, 1) for shift in range(5)]
    exact = sum(term.double() for term in terms)
    result = kernels.finish(terms[0], None, tuple(terms[1:]), -torch.inf, torch.inf)
    steps = 0.5 if kernels is not torch_kernels else 4
    assert ((result.double() - exact).abs() <= steps * 2**-8 + 1e-6).all()  # of 2^-8 from 4 to 8


@pytest.mark.parametrize('classes', [1, 3, 21])
@pytest.mark.parametrize('size', [(12, 20), (11, 13), (2, 3)])
def test_labels_and_confidence_come_from_logits_upsampled_bilinearly(kernels, classes, size):
    logits = maps(2, classes, 3, 5) * 3
    label = torch.zeros((2, *size), dtype=torch.uint8, device=DEVICE)
    confidence = torch.zeros_like(label)
    kernels.label_pixels(logits, label, confidence, 1.3)
    upsampled = functional.interpolate(logits.double(), size=size, mode='bilinear', align_corners=False)
    assert torch.equal(label.long(), upsampled.argmax(1))
    expected = 255 * (upsampled / 1.3).softmax(1).amax(1)
    assert (confidence - expected).abs().max() <= 0.501
    only = torch.zeros_like(label)
    kernels.label_pixels(logits, only, None, 1.3)
    assert torch.equal(only, label)


@pytest.mark.parametrize('order', ['rgb', 'bgr'])
@pytest.mark.parametrize('classes', [None, ('b',)])
@pytest.mark.parametrize('kernels', ['triton'], indirect=True)  # without Triton the CPU paints
def test_an_overlay_is_painted_to_the_byte_as_on_the_cpu(kernels, order, classes):
    labels = LabelSet('two', ('a', 'b'), ((255, 0, 30), (7, 130, 200)))
    torch.manual_seed(0)
    frame = torch.randint(0, 256, (37, 29, 3), dtype=torch.uint8)  # more bytes than one program paints
    label = torch.randint(0, 4, frame.shape[:2], dtype=torch.uint8)
    memory, places = scattered(frame[None].to(DEVICE))
    for alpha in (0.3, None):
        table = torch.tensor(blend_table(labels, alpha, classes), device=DEVICE)
        out = torch.empty_like(frame, device=DEVICE)
        kernels.paint(places.addresses, label.to(DEVICE), table, order, out)
        expected = (
            paint_label(label.numpy(), labels)
            if alpha is None
            else paint_overlay(frame.numpy(), label.numpy(), labels, alpha, classes, order)
        )
        np.testing.assert_array_equal(out.cpu().numpy(), expected)
    assert memory.any()  # and alive


@pytest.mark.skipif(not HAS_TRITON, reason='triton is not installed')
@pytest.mark.skipif(RUNS_TRITON, reason='the kernels run in this process')
def test_the_triton_kernels_give_the_same_in_tritons_interpreter():
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '-k', 'triton-', __file__]
    environment = os.environ | {'TRITON_INTERPRET': '1'}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert 'skipped' not in done.stdout


@pytest.mark.skipif(not HAS_TRITON, reason='triton is not installed')
@pytest.mark.parametrize('capability', [75, 86, 87, 90])  # RTX 20, RTX 30, a Jetson Orin's and an H100's
def test_the_triton_kernels_compile_for_a_gpu_that_is_not_here(tmp_path, monkeypatch, capability):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from lw_refinenet_ros.inference.cuda import triton_kernels, triton_launch

    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))
    pointers = {'addresses': '*i64', 'labels': '*u8', 'confidences': '*u8', 'mean': '*fp32', 'std': '*fp32'}
    pointers |= {'table': '*u8', 'painted': '*u8'}
    pointers |= dict.fromkeys(('x', 'out', 'logits', 'bias', 'first', 'second', 'third', 'fourth'), '*fp16')
    floats = dict.fromkeys(('sharpness', 'low', 'high'), 'fp32')
    one_row = {'height': 1, 'rows': 1}  # Triton makes numbers that are 1 constants
    for kernel, constants in (
        (triton_kernels.normalise, {'bgr': True, 'block': 1024}),
        (triton_kernels.paint, {'bgr': True, 'block': 1024}),
        (triton_kernels.normalise_resized, {**one_row, 'bgr': True, 'block': 256}),
        (triton_kernels.max_pool, {'kernel': 3, 'stride': 2, 'padding': 1, 'block': 32, 'wide': 64}),
        (triton_kernels.max_pool_5x5, {'strip': triton_launch.STRIP, 'block': 4, 'wide': 256}),
        (triton_kernels.finish, {'channels': 96, 'biased': True, 'others': 1, 'block': 2048}),
        (triton_kernels.finish, {'channels': 1, 'biased': False, 'others': 4, 'block': 2048}),
        (triton_kernels.label_pixels, {'class_stride': 1, 'classes': 21, 'confident': True, 'block': 128}),
        (triton_kernels.label_pixels, {**one_row, 'classes': 255, 'confident': False, 'block': 128}),
    ):
        names = kernel.arg_names
        constants = {name: value for name, value in constants.items() if name in names}
        types = {n: 'constexpr' if n in constants else (pointers | floats).get(n, 'i32') for n in names}
        source = ASTSource(kernel, types, {(names.index(n),): value for n, value in constants.items()})
        assert triton.compile(source, target=GPUTarget('cuda', capability, 32)).asm['cubin']


@pytest.mark.parametrize('architecture', ['lw_refinenet_resnet50', 'lw_refinenet_mobilenet_v2'])
def test_a_fused_network_gives_the_same_logits_in_fewer_passes(architecture):
    torch.manual_seed(0)
    network = build_model(architecture, 3, width=16).eval()
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    rewritten = rewrite_for_inference(network)
    fused = fuse(rewrite_for_inference(network), torch_kernels)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(fused(image), network(image), rtol=1e-3, atol=1e-4)
    called = [node.target for node in fused.graph.nodes]
    assert functional.max_pool2d not in called
    assert torch_kernels.finish in called
    # PyTorch adds a convolution's bias in a pass of its own.
    passes = [
        sum(node.op in ('call_module', 'call_function') for node in module.graph.nodes)
        + sum(isinstance(m, torch.nn.Conv2d) and m.bias is not None for m in module.modules())
        for module in (fused, rewritten)
    ]
    assert passes[0] < passes[1] - 50
    pooled = [len(node.args[2]) for node in fused.graph.nodes if node.target is torch_kernels.finish]
    assert pooled.count(4) == 4  # each chained residual pooling is summed in one pass
    biased = [m for m in fused.modules() if isinstance(m, nn.Conv2d) and m.bias is not None]
    projections = 0 if architecture == 'lw_refinenet_resnet50' else 6  # that nothing is added to
    assert len(biased) == projections + 1  # and the classifier


def test_the_choice_of_kernels_says_why():
    kernels, why = choose_kernels(torch.device(DEVICE))
    if DEVICE == 'cuda' and HAS_TRITON:
        assert kernels is not torch_kernels
        assert why == 'Triton kernels'
    elif not RUNS_TRITON:
        assert kernels is torch_kernels
        assert 'not installed' in why or 'does not run here' in why
