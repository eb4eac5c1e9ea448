# SPDX-License-Identifier: Apache-2.0
"""The CUDA path against the published pipeline, eager PyTorch and the roofline of the GPU.

On a machine with a GPU, run these to measure, and to check kernels and engine. Every way to run a network is
timed on one frame of 640x480; the best ones are in all cases. The most telling cases come first, and the
table is written after each: a run that is ended early has what it measured.

    PYTHONUNBUFFERED=1 python3 -m benchmark cuda
    python3 -m pytest test/inference/test_fused.py test/inference/test_cuda.py

The roofline counts every operation of the rewritten network: its multiply-adds, and the bytes that it must
read and write without any cache, relative to what a matrix product and a copy reach on this GPU.
"""

import gc
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmark.table import store
from lw_refinenet_ros.inference import passes
from lw_refinenet_ros.inference.baseline import UpstreamPipeline, time_interleaved
from lw_refinenet_ros.inference.cuda import pinned_memory
from lw_refinenet_ros.inference.cuda.captured_job import in_recorder
from lw_refinenet_ros.inference.cuda.engine import CudaEngine
from lw_refinenet_ros.inference.cuda.fusion import fuse
from lw_refinenet_ros.inference.segmenter import Segmenter
from lw_refinenet_ros.inference.torch_engine import TorchEngine
from lw_refinenet_ros.labels import LabelSet
from lw_refinenet_ros.model.network import build_model
from lw_refinenet_ros.model.rewrite import rewrite_for_inference
from lw_refinenet_ros.model.weights import Card

ARCHITECTURES = ('lw_refinenet_mobilenet_v2', 'lw_refinenet_resnet50')
CLASSES, DEVICE = 21, 'cuda'
UPSTREAM, OURS = 'published pipeline', 'ours, fp16, graph'
EAGER = 'eager, fp16 weights, channels last, rewritten'
PUBLISHED_ROUNDS = 20  # apart, since it leaves the device idle and the caches cold for the next way
Call = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """What comes in at once, and what is asked for."""

    size: tuple[int, int] = (480, 640)
    batch: int = 1
    confidence: bool = False

    def __str__(self) -> str:
        height, width = self.size
        return f'{self.batch} of {width}x{height}{", confidence" if self.confidence else ""}'

    @property
    def rounds(self) -> int:
        """How often each way is timed; a p99 needs that many."""
        return 200 if self.batch == 1 else 100

    @property
    def single(self) -> bool:
        """Whether the published pipeline is timed: it takes one image after the other, without confidence."""
        return self.batch == 1 and not self.confidence


FIRST = Case()
CASES = [
    Case(size, batch, confidence)
    for batch, confidence in ((1, False), (1, True), (4, False), (4, True))
    for size in (FIRST.size, (1080, 1920))
]


def main() -> None:
    """Time everything in interleaved rounds; exit with 1 if there is no CUDA device."""
    if not torch.cuda.is_available():
        sys.exit('cuda: no CUDA device here, so nothing was measured')
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True  # for the eager configurations; the engine handles its own
    torch.backends.cuda.matmul.allow_tf32 = True
    flops, bandwidth = peaks()
    rows, notes = [], [conditions(flops, bandwidth)]
    published: dict[tuple[str, tuple[int, int]], float] = {}
    for case, architecture in product(CASES, ARCHITECTURES):
        times, memory, failures = measure(architecture, case)
        notes += failures
        if not times:
            continue
        p50 = {name: float(np.median(values)) for name, values in times.items()}
        if UPSTREAM in p50:
            published[architecture, case.size] = p50[UPSTREAM]
        upstream = case.batch * published.get((architecture, case.size), float('nan'))
        rows += [
            {
                'network': architecture,
                'frames': str(case),
                'what': name,
                'p50 (ms)': round(p50[name], 3),
                'p99 (ms)': round(float(np.percentile(values, 99)), 3),
                'times faster': upstream / p50[name],
                'memory (MB)': memory[name],
            }
            for name, values in times.items()
        ]
        eager = [name for name in times if 'eager' in name]
        if eager and OURS in times:
            best = min(eager, key=p50.__getitem__)
            tail = np.percentile(times[OURS], 99) / p50[OURS]
            bound, multiply_adds, moved = roofline(architecture, case, flops, bandwidth)
            share = 100 * bound * 1e3 / p50[OURS]
            notes.append(
                f'{architecture}, {case}: {upstream / p50[OURS]:.1f} times the published pipeline, '
                f'{p50[best] / p50[OURS]:.1f} times the best eager one ({best}), p99/p50 {tail:.2f}. '
                f'Roofline: {multiply_adds / 1e9:.1f} G multiply-adds and {moved / 1e6:.0f} MB take at least '
                f'{bound * 1e3:.3f} ms, {share:.0f} % of what a frame takes with its copies.'
            )
        store('cuda', 'From image to label on CUDA', rows, notes, ('torch',))  # whatever happens to the next


def conditions(flops: float, bandwidth: float) -> str:
    return (
        f'{torch.cuda.get_device_name()}: an fp16 matrix product reaches {flops / 1e12:.0f} TFLOP/s, a copy '
        f'{bandwidth / 1e9:.0f} GB/s, read and written. Networks are untrained, {CLASSES} classes; '
        f'{FIRST.rounds} interleaved rounds ({min(c.rounds for c in CASES)} of batches) '
        'from images to labels in host memory. The published pipeline takes one image after the other and '
        f'has no confidence but an overlay: it is timed apart, with one image in {PUBLISHED_ROUNDS} rounds, '
        'and several take as often its time. '
        'Memory is what a way reserves on the device.'
    )


def measure(architecture: str, case: Case) -> tuple[dict[str, list[float]], dict[str, float], list[str]]:
    """Time the ways to run a network.

    Returns:
        milliseconds of every round, and megabytes on the device, by way; and notes: the stages of ours, and
        why a way failed.
    """
    network = build_model(architecture, CLASSES).eval()
    colors = tuple((10 * i, 5 * i, 255 - 10 * i) for i in range(CLASSES))
    labels = LabelSet('numbers', tuple(map(str, range(CLASSES))), colors)
    card = Card(architecture, 256, labels, network.encoder.mean, network.encoder.std)
    noise = np.random.default_rng(0).integers(0, 255, (9, 12, 3), np.uint8)
    image = cv2.resize(noise, case.size[::-1], interpolation=cv2.INTER_CUBIC)
    images = [image] * case.batch

    def copied() -> nn.Module:
        copy = build_model(architecture, CLASSES).eval()
        copy.load_state_dict(network.state_dict())
        return copy

    def upstream() -> Call:
        pipeline = UpstreamOnCuda(copied().to(DEVICE), card)
        return lambda: [pipeline(image) for image in images]

    def eager(precision: str) -> Call:
        return segment(TorchEngine(network, card, device=DEVICE, precision=precision, threads=0))

    def segment(engine: TorchEngine | CudaEngine) -> Call:
        return partial(Segmenter(engine, card).segment_batch, images, confidence=case.confidence)

    def half(*, rewritten: bool) -> Call:
        module = rewrite_for_inference(network) if rewritten else copied()
        return partial(EagerHalf(module, card, case), images)

    def ours(**options) -> Call:
        engine = CudaEngine(network, card, **options)
        call = segment(engine)
        call()
        print(f'{architecture}, {case}: {engine.description}')
        return call

    def page_locked() -> Call:
        pixels = pinned_memory.page_locked(*image.shape).numpy()
        np.copyto(pixels, image)
        return partial(Segmenter(CudaEngine(network, card), card).segment, pixels)

    def overlaid(painter: str) -> Call:
        segmenter = Segmenter(CudaEngine(network, card), card)
        out = np.empty_like(image)
        segmenter.segment(image).overlay(out=out)
        in_recorder(lambda: None)  # by when the device can paint

        def painted() -> None:
            result = segmenter.segment(image)
            (replace(result, painting=None) if painter == 'CPU' else result).overlay(out=out)

        return painted

    ways = {EAGER: partial(half, rewritten=True), OURS: ours}
    if case.single:
        ways = {UPSTREAM: upstream, **ways}
    if case == FIRST:
        ways |= {
            **{f'eager, autocast {p}, channels last': partial(eager, p) for p in ('fp32', 'fp16', 'bf16')},
            'eager, fp16 weights, channels last': partial(half, rewritten=False),
            'ours, bf16, graph': partial(ours, precision='bf16'),
            'ours, fp32, graph': partial(ours, precision='fp32'),
            'ours, fp16, graph, PyTorch kernels': partial(ours, triton=False),
            'ours, fp16, graph, frames in mapped memory': partial(ours, mapped=True),
            'ours, fp16, graph, from page-locked memory': page_locked,
            'ours, fp16, graph, and an overlay': partial(overlaid, 'device'),
            'ours, fp16, graph, and an overlay by the CPU': partial(overlaid, 'CPU'),
        }
    calls: dict[str, Call] = {}
    memory: dict[str, float] = {}
    notes = []
    for name, make in ways.items():
        gc.collect()  # or what the way before left behind would count against this one
        torch.cuda.empty_cache()
        before = torch.cuda.memory_reserved()
        try:
            call = make()
            call()
            calls[name] = call
        except Exception as error:  # this way only: the others are measured
            notes.append(f'{architecture}, {case}, {name}: {type(error).__name__}: {error}')
        torch.cuda.empty_cache()
        memory[name] = (torch.cuda.memory_reserved() - before) / 1e6
    slow = {UPSTREAM: calls.pop(UPSTREAM)} if UPSTREAM in calls else {}
    times = {**time_interleaved(slow, PUBLISHED_ROUNDS), **time_interleaved(calls, case.rounds)}
    if OURS in calls:
        try:
            spent = stages(calls[OURS])
        except Exception as error:  # the times are measured
            spent = f'no profile: {type(error).__name__}: {error}'
        notes.append(f'{architecture}, {case}, {OURS}: {spent}')
    return times, memory, notes


def stages(call: Call, rounds: int = 10) -> str:
    """Say what the device spends on each stage of a call, the copies over the bus included."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        for _ in range(rounds):
            call()
    spent = Counter()
    for event in profiled.key_averages():
        known = (stage for stage in ('Memcpy', 'normalise', 'label_pixels') if stage in event.key)
        spent[next(known, 'network')] += event.self_device_time_total / 1e3 / rounds
    return ', '.join(f'{stage} {milliseconds:.3f} ms' for stage, milliseconds in spent.most_common())


class UpstreamOnCuda(UpstreamPipeline):
    """The published pipeline with its network on the device; the scores return at the network's stride."""

    def __init__(self, network, card):
        super().__init__(lambda x: network(x.to(DEVICE)).cpu(), card)


class EagerHalf:
    """The obvious eager version: half precision, channels last, everything on the device."""

    def __init__(self, module, card, case):
        self._network = module.to(DEVICE, torch.float16, memory_format=torch.channels_last)
        self._mean, self._std = (torch.tensor(v, device=DEVICE) * 255 for v in (card.mean, card.std))
        self._case = case

    @torch.inference_mode()
    def __call__(self, images):
        size = self._case.size
        frames = torch.from_numpy(np.stack(images)).to(DEVICE)
        x = passes.normalise(frames, size, 'rgb', self._mean, self._std, torch.float16)
        logits = torch.nn.functional.interpolate(self._network(x), size=size, mode='bilinear')
        if not self._case.confidence:
            return logits.argmax(1).to(torch.uint8).cpu().numpy()
        confidences, labels = logits.softmax(1).max(1)
        return labels.to(torch.uint8).cpu().numpy(), confidences.float().cpu().numpy()


def peaks(size: int = 8192, rounds: int = 10) -> tuple[float, float]:
    """Measure floating-point operations per second in fp16, and bytes per second, read and written."""
    a, b = (torch.randn(size, size, device='cuda', dtype=torch.float16) for _ in range(2))
    source, target = (torch.empty(2**28, dtype=torch.float32, device='cuda') for _ in range(2))
    seconds = []
    for work in (partial(torch.mm, a, b), partial(target.copy_, source)):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        for index in range(rounds + 3):
            if index == 3:
                start.record()
            work()
        end.record()
        end.synchronize()
        seconds.append(start.elapsed_time(end) / 1e3 / rounds)
    return 2 * size**3 / seconds[0], 2 * source.nbytes / seconds[1]


class Roofline(TorchDispatchMode):
    """Sums the minimum time of each operation, by its arithmetic or its bytes."""

    def __init__(self, flops: float, bandwidth: float) -> None:
        super().__init__()
        self._flops, self._bandwidth = flops, bandwidth
        self.seconds, self.multiply_adds, self.bytes = 0.0, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func.is_view:
            return result
        tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, torch.Tensor)]
        moved, multiply_adds = sum(t.nbytes for t in tensors), 0
        if func is torch.ops.aten.convolution.default:
            multiply_adds = result.numel() * args[1][0].numel()
        self.seconds += max(2 * multiply_adds / self._flops, moved / self._bandwidth)
        self.multiply_adds += multiply_adds
        self.bytes += moved
        return result


class CountedKernels:
    """The kernels as counted for the roofline: each reads its arguments and writes its result once."""

    @staticmethod
    def max_pool(x, kernel, stride=1, padding=0):
        rows, columns = ((n + 2 * padding - kernel) // stride + 1 for n in x.shape[2:])
        return x.new_empty((*x.shape[:2], rows, columns))

    @staticmethod
    def finish(x, bias, others, low, high):
        for other in others:
            other.sum()  # to one number
        return torch.neg(x)

    @staticmethod
    def pointwise(x, weight, bias, others, low, high):
        for other in others:
            other.sum()
        return functional.conv2d(x, weight, bias)

    @staticmethod
    def depthwise(x, taps, bias, stride, padding, low, high):
        kernel, _, channels = taps.shape
        weight = taps.permute(2, 0, 1)[:, None]
        padding = kernel // 2 if padding is None else padding  # the same size, without a pass that pads
        return functional.conv2d(x, weight, bias, stride, padding, groups=channels)

    @staticmethod
    def add_upsampled(coarse, x, low, high):
        coarse.sum()
        return torch.neg(x)


def roofline(architecture: str, case: Case, flops: float, bandwidth: float) -> tuple[float, int, int]:
    """Return the minimum seconds of a network, its multiply-adds and its bytes in half precision."""
    network = fuse(rewrite_for_inference(build_model(architecture, CLASSES)), CountedKernels)
    network = network.to('meta', torch.float16)
    with torch.no_grad(), Roofline(flops, bandwidth) as counted:
        network(torch.empty(case.batch, 3, *case.size, device='meta', dtype=torch.float16))
    return counted.seconds, counted.multiply_adds, counted.bytes
