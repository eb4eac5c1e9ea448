# SPDX-License-Identifier: Apache-2.0
"""The OpenVINO engine: camera bytes in, labels out, in one graph on the CPU."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from lw_refinenet_ros.inference.engine import EngineError, Job, Pixels
from lw_refinenet_ros.inference.openvino_graph import add_network
from lw_refinenet_ros.inference.upsample import ratio_of, upsample_argmax
from lw_refinenet_ros.model.rewrite import rewrite_for_inference

if TYPE_CHECKING:
    from lw_refinenet_ros.model.network import Network
    from lw_refinenet_ros.model.weights import Card

__all__ = ['OpenVINOEngine']

KEPT_JOBS = 8  # compiled graphs; the least recently used goes first
HINTS = {'fp32': 'f32', 'bf16': 'bf16'}


class OpenVINOEngine:
    """Runs a network on the CPU; one compiled graph per job.

    Raises:
        EngineError: the CPU does not have the precision natively.

    """

    name = 'openvino'
    device = 'cpu'

    def __init__(self, network: Network, card: Card, *, precision: str, threads: int) -> None:
        self._network, self._card = rewrite_for_inference(network), card
        self._core = ov.Core()
        native = 'BF16' in self._core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
        self.precision = precision if precision != 'auto' else 'bf16' if native else 'fp32'
        if self.precision not in HINTS or (self.precision == 'bf16' and not native):
            usable = ', '.join(['fp32', *(['bf16'] if native else [])])
            msg = f'precision {precision!r} is not native to this CPU in OpenVINO: use {usable}'
            raise EngineError(msg)
        why = (
            'native here'
            if self.precision == 'bf16'
            else 'asked for'
            if precision != 'auto'
            else 'no native bf16'
        )
        self._config = {'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': HINTS[self.precision]}
        if threads:
            self._config['INFERENCE_NUM_THREADS'] = str(threads)
        self.description = (
            f'OpenVINO {ov.get_version().split("-")[0]} on CPU, {self.precision} ({why}), '
            f'{threads or "all"} threads'
        )
        self._compiled: OrderedDict[Job, tuple[ov.InferRequest, list[str]]] = OrderedDict()

    def prepare(self, job: Job) -> None:
        """Compile the graph of a job and run it once."""
        if job in self._compiled:
            return
        model, outputs = self._graph(job)
        request = self._core.compile_model(model, 'CPU', self._config).create_infer_request()
        request.infer()
        self._compiled[job] = (request, outputs)
        while len(self._compiled) > KEPT_JOBS:
            self._compiled.popitem(last=False)

    def run(self, job: Job, image: Pixels, label: Pixels, confidence: Pixels | None) -> None:
        """Segment one image: it is read where it lies, results are written in place."""
        self.prepare(job)
        self._compiled.move_to_end(job)
        request, outputs = self._compiled[job]
        request.set_tensor('image', _share(image[None]))
        if 'label' in outputs:
            request.set_tensor('label', _share(label[None]))
        if confidence is not None:
            request.set_tensor('confidence', _share(confidence[None]))
        request.infer()
        if 'label' not in outputs:
            logits, nearest = (request.get_tensor(name).data[0] for name in ('logits', 'nearest'))
            upsample_argmax(logits, nearest, label)

    def _graph(self, job: Job) -> tuple[ov.Model, list[str]]:
        """Build the graph of a job; also gives the names of its outputs.

        From `image`, uint8 (1, H, W, 3), to `label` and, if asked for, `confidence`, uint8 (1, H, W).
        Where the image has a whole number of pixels per logit, `logits`, float32 (1, C, h, w), and
        `nearest`, their argmax, stand in for the label.
        """
        image = ops.parameter([1, *job.image_size, 3], np.uint8, name='image')
        x = ops.transpose(ops.convert(image, 'f32'), np.array([0, 3, 1, 2]))
        if job.order == 'bgr':
            x = ops.gather(x, np.array([2, 1, 0]), np.int64(1))
        if job.network_size != job.image_size:
            x = _resize(x, job.network_size)
        mean, std = (
            np.array(v, np.float32).reshape(1, 3, 1, 1) * 255 for v in (self._card.mean, self._card.std)
        )
        x = ops.divide(ops.subtract(x, mean), std)
        logits = add_network(self._network, x.output(0))
        outputs: dict[str, ov.Output] = {}
        if ratio_of(job.image_size, tuple(logits.shape)[2:]):
            outputs |= {'logits': logits, 'nearest': _bytes(_top(logits).output(1))}
        if job.confidence or not outputs:
            logits = _resize(logits, job.image_size).output(0)
            top = _top(logits)
            if not outputs:
                outputs['label'] = _bytes(top.output(1))
            if job.confidence:
                # softmax at the maximum: 1 / sum(exp((logit - maximum) / T))
                distance = ops.divide(ops.subtract(logits, top.output(0)), np.float32(self._card.temperature))
                total = ops.reduce_sum(ops.exp(distance), np.array([1]), keep_dims=True)
                scaled = ops.round(ops.divide(np.float32(255), total), 'half_to_even')
                outputs['confidence'] = _bytes(scaled.output(0))
        model = ov.Model(list(outputs.values()), [image], 'lw_refinenet')
        for name, output in zip(['image', *outputs], [*model.inputs, *model.outputs]):
            output.get_tensor().set_names({name})
        return model, list(outputs)


def _top(logits: ov.Output) -> ov.Node:
    """Give the highest logit of each pixel and its class."""
    return ops.topk(logits, np.int64(1), 1, 'max', 'none', 'i32')


def _share(array: np.ndarray) -> ov.Tensor:
    return ov.Tensor(array, shared_memory=True)


def _resize(x: ov.Node | ov.Output, size: tuple[int, int]) -> ov.Node:
    return ops.interpolate(
        x,
        np.array(size),
        'linear_onnx',
        'sizes',
        coordinate_transformation_mode='half_pixel',
        axes=np.array([2, 3]),
    )


def _bytes(x: ov.Output) -> ov.Output:
    return ops.squeeze(ops.convert(x, 'u8'), np.array([1])).output(0)
