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

import pytest
import torch
from torch import nn
from torch.nn import functional

from lw_refinenet_ros.inference import fused_torch
from lw_refinenet_ros.inference.fused import choose_kernels, fuse
from lw_refinenet_ros.model.network import build_model
from lw_refinenet_ros.model.rewrite import rewrite_for_inference

HAS_TRITON = importlib.util.find_spec('triton') is not None
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
RUNS_TRITON = HAS_TRITON and (DEVICE == 'cuda' or os.environ.get('TRITON_INTERPRET') == '1')


@pytest.fixture(params=['torch', 'triton'])
def kernels(request):
    """Both sets of kernels."""
    if request.param == 'torch':
        return fused_torch
    if not RUNS_TRITON:
        pytest.skip('no CUDA device; see the test with the interpreter' if HAS_TRITON else 'no triton')
    from lw_refinenet_ros.inference import fused_triton

    return fused_triton


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
        finish_convolution=lambda x, bias, other, low, high: (
            x + bias.view(-1, 1, 1) + (0 if other is None else other)
        ).clamp(low, high)
    )
    fused = fuse(rewrite_for_inference(network), pure)
    torch.testing.assert_close(fused(x.clone()), network(x))


@pytest.mark.parametrize('order', ['rgb', 'bgr'])
@pytest.mark.parametrize('size', [(5, 7), (3, 4), (6, 11)])
def test_bytes_are_resized_reordered_and_normalised_in_one_pass(kernels, size, order):
    torch.manual_seed(0)
    frames = torch.randint(0, 256, (2, 5, 7, 3), dtype=torch.uint8, device=DEVICE)
    mean, std = torch.tensor([120.0, 110, 100], device=DEVICE), torch.tensor([60.0, 61, 62], device=DEVICE)
    result = kernels.normalise(frames, size, order, mean, std, torch.float32)
    rgb = (frames if order == 'rgb' else frames.flip(3)).permute(0, 3, 1, 2).double()
    resized = (functional.interpolate(rgb, size=size, mode='bilinear', align_corners=False) + 0.5).floor()
    expected = (resized - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    steps = ((result - expected) * std.view(3, 1, 1)).abs()
    assert (steps > 0.01).double().mean() < 0.1  # where the exact value lies half-way, rounding may differ
    assert steps.max() < 1.01
    assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
@pytest.mark.parametrize(('kernel', 'stride', 'padding'), [(5, 1, 2), (3, 2, 1)])
def test_pooling_without_indices_pools_alike(kernels, kernel, stride, padding, dtype):
    x = maps(2, 20, 5, 6, dtype=dtype) - 5  # below the zeros that a wrong padding would add
    result = kernels.max_pool(x, kernel, stride=stride, padding=padding)
    expected = functional.max_pool2d(x.float(), kernel, stride=stride, padding=padding)
    assert torch.equal(result.float(), expected)
    assert result.dtype == dtype
    assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('other', [False, True])
@pytest.mark.parametrize(('low', 'high'), [(0.0, 6.0), (0.0, torch.inf), (-torch.inf, torch.inf)])
def test_bias_sum_and_clipping_are_one_pass_in_place(kernels, low, high, other):
    x, bias = maps(2, 20, 5, 6), maps(20, 1, 1, 1).flatten() * 4
    summand = maps(2, 20, 5, 6).flip(2) if other else None
    expected = (x + bias.view(-1, 1, 1) + (0 if summand is None else summand)).clamp(low, high)
    result = kernels.finish_convolution(x, bias, summand, low, high)
    torch.testing.assert_close(result, expected)
    assert result.data_ptr() == x.data_ptr()


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


@pytest.mark.skipif(not HAS_TRITON, reason='triton is not installed')
@pytest.mark.skipif(RUNS_TRITON, reason='the kernels run in this process')
def test_the_triton_kernels_give_the_same_in_tritons_interpreter():
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '-k', 'triton-', __file__]
    environment = os.environ | {'TRITON_INTERPRET': '1'}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert 'skipped' not in done.stdout


@pytest.mark.skipif(not HAS_TRITON, reason='triton is not installed')
def test_the_triton_kernels_compile_for_a_gpu_that_is_not_here(tmp_path, monkeypatch):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from lw_refinenet_ros.inference import fused_kernels

    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))
    pointers = {'frames': '*u8', 'labels': '*u8', 'confidences': '*u8', 'mean': '*fp32', 'std': '*fp32'}
    pointers |= dict.fromkeys(('x', 'out', 'other', 'logits', 'bias'), '*fp16')
    floats = dict.fromkeys(('sharpness', 'low', 'high'), 'fp32')
    for kernel, constants in (
        (fused_kernels.normalise, {'bgr': True, 'resize': True, 'block': 256}),
        # An image of one row: Triton makes numbers that are 1 constants
        (fused_kernels.normalise, {'height': 1, 'rows': 1, 'bgr': False, 'resize': True, 'block': 256}),
        (fused_kernels.max_pool, {'kernel': 5, 'stride': 1, 'padding': 2, 'block': 8, 'wide': 256}),
        (fused_kernels.finish, {'add': True, 'block': 2048}),
        (fused_kernels.label_pixels, {'class_stride': 1, 'confident': True, 'block': 64, 'wide': 32}),
        (fused_kernels.label_pixels, {'rows': 1, 'height': 1, 'confident': False, 'block': 8, 'wide': 256}),
    ):
        names = kernel.arg_names
        types = {n: 'constexpr' if n in constants else (pointers | floats).get(n, 'i32') for n in names}
        source = ASTSource(kernel, types, {(names.index(n),): value for n, value in constants.items()})
        compiled = triton.compile(
            source,
            target=GPUTarget('cuda', 87, 32),  # a Jetson Orin's
        )
        assert compiled.asm['cubin']


@pytest.mark.parametrize('architecture', ['lw_refinenet_resnet50', 'lw_refinenet_mobilenet_v2'])
def test_a_fused_network_gives_the_same_logits_in_fewer_passes(architecture):
    torch.manual_seed(0)
    network = build_model(architecture, 3, width=16).eval()
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    rewritten = rewrite_for_inference(network)
    fused = fuse(rewrite_for_inference(network), fused_torch)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(fused(image), network(image), rtol=1e-3, atol=1e-4)
    called = [node.target for node in fused.graph.nodes]
    assert functional.max_pool2d not in called
    assert fused_torch.finish_convolution in called
    # PyTorch adds a convolution's bias in a pass of its own.
    passes = [
        sum(node.op in ('call_module', 'call_function') for node in module.graph.nodes)
        + sum(isinstance(m, torch.nn.Conv2d) and m.bias is not None for m in module.modules())
        for module in (fused, rewritten)
    ]
    assert passes[0] < passes[1] - 40


def test_the_choice_of_kernels_says_why():
    kernels, why = choose_kernels(torch.device(DEVICE))
    if DEVICE == 'cuda' and HAS_TRITON:
        assert kernels is not fused_torch
        assert why == 'Triton kernels'
    elif not RUNS_TRITON:
        assert kernels is fused_torch
        assert 'not installed' in why or 'does not run here' in why
