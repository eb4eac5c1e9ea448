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
from lw_refinenet_ros.model.decoder import Decoder
from lw_refinenet_ros.model.encoder import FeatureSpec
from lw_refinenet_ros.model.inverted_residual import InvertedResidualEncoder, SamePadConv2d, Stage
from lw_refinenet_ros.model.network import ARCHITECTURES, Network, build_model
from lw_refinenet_ros.model.rewrite import rewrite_for_inference

HAS_TRITON = importlib.util.find_spec('triton') is not None
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
OLD = DEVICE == 'cuda' and torch.cuda.get_device_capability()[0] < 8  # its 1x1 convolutions are cuDNN's
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


@pytest.fixture(autouse=True)
def _float32_is_float32():
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def maps(*shape, dtype=torch.float32):
    torch.manual_seed(0)
    return torch.randn(shape, device=DEVICE).to(dtype, memory_format=torch.channels_last)


class Doubled(nn.Module):
    """Adds a convolution's result to itself."""

    def __init__(self, bias):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1, bias=bias)

    def forward(self, x):
        y = self.convolution(x)
        return torch.relu(y + y)


@pytest.mark.parametrize('bias', [True, False])
@torch.no_grad()
def test_a_sum_of_a_map_with_itself_is_not_fused(bias):
    torch.manual_seed(0)
    network, x = Doubled(bias).eval(), torch.randn(1, 3, 5, 6)
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


class Entangled(nn.Module):
    """Convolutions with and without bias whose results are needed again, summed or upsampled."""

    def __init__(self):
        super().__init__()
        self.full = nn.Conv2d(3, 4, 3, padding=1)
        self.points = nn.ModuleList(nn.Conv2d(4, 4, 1, bias=index > 1) for index in range(5))
        self.alone = nn.ModuleList(
            nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=index > 0) for index in range(3)
        )

    def forward(self, x):
        x = self.full(x)
        a, b, c, d, e = (point(x) for point in self.points)
        p, q, r = (depthwise(x) for depthwise in self.alone)
        small = functional.max_pool2d(torch.relu(a), 3, stride=2, padding=1)
        up = functional.interpolate(small, size=x.shape[-2:], mode='bilinear', align_corners=True)
        up_again = functional.interpolate(small, size=x.shape[-2:], mode='bilinear', align_corners=True)
        half_pixel = functional.interpolate(small, size=x.shape[-2:], mode='bilinear', align_corners=False)
        total = torch.relu(c + up + b) + (d + d) + functional.relu6(p + x)
        return total + torch.relu(e + b) + (q + half_pixel) + torch.relu(r) + torch.relu(x + up_again) + a


@torch.no_grad()
def test_convolutions_take_only_the_passes_that_are_theirs(kernels):
    torch.manual_seed(0)
    network, x = Entangled().eval(), maps(1, 3, 5, 6)
    fused = fuse(rewrite_for_inference(network), kernels).to(DEVICE)
    called = [node.target for node in fused.graph.nodes]
    assert called.count(kernels.pointwise) == 5
    assert called.count(kernels.depthwise) == 3
    assert called.count(kernels.add_upsampled) == 2
    torch.testing.assert_close(fused(x.clone()), network.to(DEVICE)(x))


@pytest.mark.parametrize(
    'convolution',
    [
        nn.Conv2d(4, 4, 1, padding=1),
        nn.Conv2d(4, 4, 1, groups=2),
        nn.Conv2d(4, 8, 3, padding=1, groups=4),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode='reflect', groups=4),
        nn.Conv2d(4, 4, (3, 1), padding=1, groups=4),
        nn.Conv2d(4, 4, 3, padding=1, stride=(1, 2), groups=4),
        nn.Conv2d(4, 4, 3, padding=(0, 1), groups=4),
    ],
    ids=str,
)
@torch.no_grad()
def test_a_convolution_that_no_kernel_computes_stays_pytorchs(convolution):
    network, x = nn.Sequential(convolution, nn.ReLU()).eval(), torch.randn(1, 4, 6, 7)
    expected = network(x)
    fused = fuse(rewrite_for_inference(network), torch_kernels)
    torch.testing.assert_close(fused(x.clone()), expected)


@pytest.mark.parametrize('activation', [nn.ReLU6(), nn.ReLU(), nn.Identity()], ids=str)
@pytest.mark.parametrize('kind', [{'kernel_size': 3}, {'kernel_size': 1}, {'kernel_size': 3, 'groups': 4}])
@torch.no_grad()
def test_a_convolution_is_clipped_as_its_activation_clips(kind, activation):
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Conv2d(4, 4, **kind), activation).eval(), 40 * torch.randn(1, 4, 6, 7)
    expected = network(x)
    assert expected.abs().max() > 6 or (expected == 6).any()
    fused = fuse(rewrite_for_inference(network), torch_kernels)
    torch.testing.assert_close(fused(x.clone()), expected)


class Summed(nn.Module):
    """Adds an upsampled map to two that no convolution makes."""

    def forward(self, x):
        a, b = (functional.max_pool2d(x, size, stride=1, padding=size // 2) for size in (3, 5))
        small = functional.max_pool2d(x, 3, stride=2, padding=1)
        up = functional.interpolate(small, size=x.shape[-2:], mode='bilinear', align_corners=True)
        return torch.relu(a + up + b)


@torch.no_grad()
def test_what_is_added_beside_an_upsampled_map_is_not_lost(kernels):
    network, x = Summed().eval(), maps(1, 3, 5, 6)
    fused = fuse(rewrite_for_inference(network), kernels)
    assert [node.target for node in fused.graph.nodes].count(kernels.add_upsampled) == 1
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


def assert_rounded_once(result, exact, *, rounded):
    """Hold a result in half or float precision to the exact one."""
    step = 2.0 ** (-11 if result.dtype == torch.float16 else -18)
    steps = ((result.double() - exact).abs() / (step * exact.abs().clamp(min=1))).max()
    assert steps <= (1.1 if rounded else 12)  # the sums before that are in float32
    assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
@pytest.mark.parametrize(('inputs', 'outputs', 'others'), [(1, 24, 0), (21, 1, 1), (24, 21, 4), (136, 72, 2)])
def test_a_1x1_convolution_adds_and_clips(kernels, inputs, outputs, others, dtype):
    x = maps(2, inputs, 5, 9, dtype=dtype)
    weight = maps(outputs, inputs, 1, 1, dtype=dtype) / inputs**0.5
    bias = maps(outputs, 1, 1, 1, dtype=dtype).flatten() * 2
    summands = tuple(maps(2, outputs, 5, 9, dtype=dtype).roll(shift, 1) for shift in range(others))
    before = [m.clone() for m in (x, *summands)]
    convolved = functional.conv2d(x.double(), weight.double())
    for added, low, high in ((bias, 0.0, 6.0), (bias, -torch.inf, torch.inf), (None, 0.0, torch.inf)):
        exact = convolved if added is None else convolved + added.double().view(-1, 1, 1)
        exact = sum((m.double() for m in summands), exact).clamp(low, high)
        result = kernels.pointwise(x, weight, added, summands, low, high)
        assert_rounded_once(result, exact, rounded=kernels is not torch_kernels and not OLD)
    assert all(map(torch.equal, before, (x, *summands)))  # they may be needed again


@pytest.mark.parametrize('kernels', ['triton'], indirect=True)
def test_a_1x1_convolution_that_arithmetic_slows_is_cudnns(kernels, monkeypatch):
    monkeypatch.setattr(kernels, 'FEW_MULTIPLY_ADDS', 0)
    monkeypatch.setattr(kernels.kernels, 'pointwise', None)
    x, weight, bias = maps(1, 256, 3, 4), maps(256, 256, 1, 1), maps(256, 1, 1, 1).flatten()
    for dtype in (torch.float16, torch.float32):
        operands = (x.to(dtype), weight.to(dtype))
        for arguments in ((None, ()), (bias.to(dtype), ()), (None, (x.to(dtype),))):
            result = kernels.pointwise(*operands, *arguments, 0.0, 6.0)
            expected = torch_kernels.pointwise(*operands, *arguments, 0.0, 6.0)
            torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
@pytest.mark.parametrize('same', [False, True])
@pytest.mark.parametrize(
    ('channels', 'kernel', 'stride', 'size'),
    [(1, 3, 1, (5, 6)), (21, 3, 2, (7, 4)), (24, 5, 2, (8, 11)), (72, 5, 1, (1, 1)), (40, 3, 3, (13, 14))],
)
def test_a_depthwise_convolution_pads_adds_and_clips(kernels, channels, kernel, stride, size, same, dtype):
    torch.manual_seed(1)
    options = {'groups': channels, 'padding': 0 if same else kernel // 2, 'dtype': torch.float64}
    layer = (SamePadConv2d if same else nn.Conv2d)(channels, channels, kernel, stride, **options).to(DEVICE)
    taps = layer.weight[:, 0].permute(1, 2, 0).to(dtype).contiguous()
    layer.weight.data = taps.double().permute(2, 0, 1)[:, None]
    x, bias = maps(2, channels, *size, dtype=dtype), layer.bias.to(dtype)
    padding = None if same else kernel // 2
    with torch.no_grad():
        convolved = layer(x.double()) - layer.bias.view(-1, 1, 1)
        for added, low, high in ((bias, 0.0, 0.5), (None, -torch.inf, torch.inf)):
            exact = convolved if added is None else convolved + added.double().view(-1, 1, 1)
            result = kernels.depthwise(x, taps, added, stride, padding, low, high)
            assert_rounded_once(result, exact.clamp(low, high), rounded=kernels is not torch_kernels)


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
@pytest.mark.parametrize('channels', [1, 21, 24])
@pytest.mark.parametrize(
    ('coarse', 'fine'), [((3, 4), (5, 8)), ((4, 3), (4, 3)), ((1, 5), (7, 1)), ((2, 1), (3, 9))]
)
def test_an_upsampled_map_is_added_and_clipped(kernels, coarse, fine, channels, dtype):
    y, x = maps(2, channels, *coarse, dtype=dtype), maps(2, channels, *fine, dtype=dtype)
    upsampled = functional.interpolate(y.double(), size=fine, mode='bilinear', align_corners=True)
    for low, high in ((0.0, 2.0), (-torch.inf, torch.inf)):
        result = kernels.add_upsampled(y, x, low, high)
        exact = (upsampled + x.double()).clamp(low, high)
        assert_rounded_once(result, exact, rounded=kernels is not torch_kernels)


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
    maps_16 = ('x', 'out', 'logits', 'weight', 'taps', 'coarse', 'bias', 'first', 'second', 'third', 'fourth')
    pointers |= dict.fromkeys(maps_16, '*fp16')
    floats = dict.fromkeys(('sharpness', 'low', 'high', 'row_scale', 'column_scale'), 'fp32')
    one_row = {'height': 1, 'rows': 1}  # Triton makes numbers that are 1 constants
    tiles = [
        {'block': 128, 'wide': 64, 'deep': 32, 'input_unit': 8, 'output_unit': 8},
        {'block': 64, 'wide': 32, 'deep': 64, 'input_unit': 8, 'output_unit': 1},
    ]
    tiles *= capability >= 80  # cuDNN has the older ones
    spread = {'block': 32, 'wide': 32}
    for kernel, constants in (
        (triton_kernels.normalise, {'bgr': True, 'block': 1024}),
        (triton_kernels.paint, {'bgr': True, 'block': 1024}),
        (triton_kernels.normalise_resized, {**one_row, 'bgr': True, 'block': 256}),
        (triton_kernels.max_pool, {'kernel': 3, 'stride': 2, 'padding': 1, 'block': 32, 'wide': 64}),
        (triton_kernels.max_pool_5x5, {'strip': triton_launch.STRIP, 'block': 4, 'wide': 256}),
        (triton_kernels.finish, {'channels': 96, 'biased': True, 'others': 1, 'block': 2048}),
        (triton_kernels.finish, {'channels': 1, 'biased': False, 'others': 4, 'block': 2048}),
        *((triton_kernels.pointwise, {**options, 'biased': True, 'others': 1}) for options in tiles),
        (triton_kernels.depthwise, {'unit': 8, 'kernel': 3, 'stride': 2, 'biased': True, **spread}),
        (
            triton_kernels.depthwise,
            {**one_row, 'unit': 1, 'kernel': 3, 'stride': 1, 'biased': False, **spread},
        ),
        (triton_kernels.add_upsampled, {'unit': 8, 'block': 8, 'wide': 256}),
        (triton_kernels.add_upsampled, {'unit': 1, 'block': 64, 'wide': 32}),
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
    assert functional.interpolate not in called
    assert called.count(torch_kernels.add_upsampled) == 3
    assert called.count(torch_kernels.depthwise) == (17 if architecture.endswith('mobilenet_v2') else 0)
    # PyTorch adds a convolution's bias in a pass of its own.
    passes = [
        sum(node.op in ('call_module', 'call_function') for node in module.graph.nodes)
        + sum(isinstance(m, torch.nn.Conv2d) and m.bias is not None for m in module.modules())
        for module in (fused, rewritten)
    ]
    assert passes[0] < passes[1] - 50
    pooled = [len(node.args[3]) for node in fused.graph.nodes if node.target is torch_kernels.pointwise]
    assert pooled.count(4) == 4  # each chained residual pooling is summed in one pass
    biased = [m for m in fused.modules() if isinstance(m, nn.Conv2d) and m.bias is not None]
    projections = 0 if architecture == 'lw_refinenet_resnet50' else 6  # that nothing is added to
    assert len(biased) == projections + 1  # and the classifier


def small_network():
    """All kinds of layers that networks have, few enough for Triton's interpreter."""
    stages = [(1, 8, 1, 1, 3), (3, 8, 2, 2, 3), (2, 12, 2, 2, 5), (1, 21, 1, 2, 3)]
    encoder = InvertedResidualEncoder([Stage(*stage) for stage in stages], same=True)
    features = [FeatureSpec(channels, 2 ** (index + 2)) for index, (_, channels, *_) in enumerate(stages[1:])]
    return Network(encoder, Decoder(features, 3, 24, levels=3, crp_stages=2, clipped=True))


# Those with deeper encoders, or wider, have the same kinds of layers; the interpreter is too slow for any.
NAMES = [name for name in ARCHITECTURES if not name.endswith(('resnet101', 'resnet152', 'lite1', 'lite2'))]


@pytest.mark.parametrize('name', ['small', *([] if RUNS_TRITON and DEVICE == 'cpu' else NAMES)])
@torch.no_grad()
def test_a_fused_network_in_half_precision_is_near_the_exact_one(kernels, name):
    torch.manual_seed(0)
    network = (small_network() if name == 'small' else build_model(name, 3, width=16)).eval()
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    image = maps(2, 3, 19, 34)
    fused = fuse(rewrite_for_inference(network), kernels)
    fused.to(DEVICE, torch.float16, memory_format=torch.channels_last)
    expected = network.to(DEVICE)(image)
    difference = (fused(image.half()).float() - expected).abs().max()
    assert difference <= 4e-3 * expected.abs().max()  # 0.8e-3 to 1.5e-3 were seen


def test_the_choice_of_kernels_says_why():
    kernels, why = choose_kernels(torch.device(DEVICE))
    if DEVICE == 'cuda' and HAS_TRITON:
        assert kernels is not torch_kernels
        assert why == 'Triton kernels'
    elif not RUNS_TRITON:
        assert kernels is torch_kernels
        assert 'not installed' in why or 'does not run here' in why
