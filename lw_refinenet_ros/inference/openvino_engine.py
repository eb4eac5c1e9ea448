# SPDX-License-Identifier: Apache-2.0
"""The OpenVINO engine: camera bytes through a compiled graph to logits, and those to labels, on the CPU."""

from __future__ import annotations

import locale
import platform
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import openvino as ov
from openvino import opset13 as ops

from lw_refinenet_ros.inference.engine import PRECISIONS, Batch, EngineError, Job, Pixels
from lw_refinenet_ros.inference.openvino_graph import add_network
from lw_refinenet_ros.inference.upsample import upsample
from lw_refinenet_ros.model.network import Network, drop_tensors
from lw_refinenet_ros.model.split_classifier import rewrite_for_cpu
from lw_refinenet_ros.model.weights import Card
from lw_refinenet_ros.one_line import counted
from lw_refinenet_ros.process_wide import ProcessWide

__all__ = ['OpenVINOEngine', 'native_precisions']

KEPT_JOBS = 8  # compiled graphs; the least recently used goes first


def native_precisions() -> frozenset[str]:
    """Return the precisions that this CPU computes natively in OpenVINO.

    int8 only on x86: on aarch64 OpenVINO claims to have it, but its kernels crash on our graphs (2026.4.1).
    fp16 only elsewhere: on x86 it has not been run.
    """
    able = ov.Core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
    x86 = platform.machine() in ('x86_64', 'AMD64')
    wanted = ('BF16', 'INT8') if x86 else ('BF16', 'FP16')
    return frozenset({'fp32'} | {name.lower() for name in wanted if name in able})


def _use_letters_of_c() -> Callable[[], object]:
    """Let the C library change case as in English: in a Turkish locale, OpenVINO finds no word with an I."""
    before = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, 'C')
    return partial(locale.setlocale, locale.LC_CTYPE, before)


letters_of_c = ProcessWide(_use_letters_of_c)


class OpenVINOEngine:
    """Runs a network on the CPU; one compiled graph per job.

    Raises:
        EngineError: the CPU does not have the precision natively.
    """

    name = 'openvino'
    device = 'cpu'

    def __init__(self, network: Network, card: Card, *, precision: str, threads: int) -> None:
        self._network, self._card = rewrite_for_cpu(network), card
        self._core = ov.Core()
        native = native_precisions()
        if precision not in native:
            usable = (name for name in PRECISIONS if name in native and (name != 'int8' or card.quantization))
            raise EngineError(
                f'precision {precision!r} is not native to this CPU in OpenVINO: use {", ".join(usable)}'
            )
        self.precision = precision
        self._quantization = card.quantization if precision == 'int8' else None
        beside_int8 = 'bf16' if 'bf16' in native else 'fp32'
        floats = beside_int8 if precision == 'int8' else precision
        self._config = {
            'PERFORMANCE_HINT': 'LATENCY',
            'INFERENCE_PRECISION_HINT': floats.replace('fp', 'f'),
            # Else the threads of two nodes, or of a model and its successor, share the same first cores.
            'ENABLE_CPU_PINNING': 'NO',
        }
        if threads:
            self._config['INFERENCE_NUM_THREADS'] = str(threads)
        version = ov.get_version().split('-')[0]
        on = counted(threads, 'thread') if threads else 'all threads'
        self.description = f'OpenVINO {version} on CPU, {precision}, {on}'
        self._compiled: OrderedDict[Job, ov.InferRequest] = OrderedDict()
        self._copies = np.empty((0, 0, 0, 3), np.uint8)  # of images that are resized, or lie apart

    def prepare(self, job: Job) -> None:
        """Compile the graph of a job and run it once."""
        self._request(job)

    def close(self) -> None:
        """Free the compiled graphs and the weights."""
        self._compiled.clear()
        drop_tensors(self._network)

    def _request(self, job: Job) -> ov.InferRequest:
        job = replace(job, image_size=job.network_size, confidence=False)  # the rest is not the graph's work
        if job in self._compiled:
            self._compiled.move_to_end(job)
            return self._compiled[job]
        with letters_of_c:
            model = self._core.compile_model(self._graph(job), 'CPU', self._config)
        request = model.create_infer_request()
        request.infer()
        self._compiled[job] = request
        while len(self._compiled) > KEPT_JOBS:
            self._compiled.popitem(last=False)
        return request

    def run(self, job: Job, batch: Batch) -> None:
        """Segment a batch: one image is read where it lies and its results are written in place."""
        request = self._request(job)
        request.set_tensor('image', _share(self._input(job, batch.images)))
        request.infer()
        logits, nearest = (request.get_tensor(name).data for name in ('logits', 'nearest'))
        for index, label in enumerate(batch.labels):
            confidence = batch.confidences[index] if batch.confidences else None
            upsample(logits[index], nearest[index], label, confidence, self._card.temperature, batch.ids)

    def _input(self, job: Job, images: Sequence[Pixels]) -> Pixels:
        """Return the graph's input: the image itself, if it is one and of the network's size."""
        resized = job.network_size != job.image_size
        if job.batch == 1 and not resized:
            return images[0][None]
        shape = (job.batch, *job.network_size, 3)
        if self._copies.shape != shape:
            self._copies = np.empty(shape, np.uint8)
        for row, image in zip(self._copies, images):
            if resized:
                cv2.resize(image, job.network_size[::-1], dst=row, interpolation=cv2.INTER_LINEAR)
            else:
                np.copyto(row, image)
        return self._copies

    def _graph(self, job: Job) -> ov.Model:
        """Build the graph of a job.

        From `image`, uint8 (N, H, W, 3), to `logits`, float32 (N, C, h, w), and `nearest`, uint8 (N, h, w),
        the class of the highest of them.
        """
        image = ops.parameter([job.batch, *job.network_size, 3], np.uint8, name='image')
        height, width = job.network_size
        rgb = ops.gather(image, np.array([2, 1, 0]), np.int64(3)) if job.order == 'bgr' else image
        # Along whole rows, since an operation on 3 values at a time would take longer; and transposed at the
        # end, since in memory the convolutions have the channels last as well.
        rows = ops.reshape(rgb, np.array([job.batch, height, width * 3]), special_zero=False)
        mean, std = (
            np.tile(np.array(values, np.float32) * 255, width) for values in (self._card.mean, self._card.std)
        )
        normalised = ops.divide(ops.subtract(ops.convert(rows, 'f32'), mean), std)
        x = ops.reshape(normalised, np.array([job.batch, height, width, 3]), special_zero=False)
        x = ops.transpose(x, np.array([0, 3, 1, 2]))
        logits = add_network(self._network, x.output(0), self._quantization)
        highest = ops.topk(logits, np.int64(1), 1, 'max', 'none', 'i32').output(1)
        nearest = ops.squeeze(ops.convert(highest, 'u8'), np.array([1]))
        model = ov.Model([logits, nearest.output(0)], [image], 'lw_refinenet')
        for name, output in zip(('image', 'logits', 'nearest'), [*model.inputs, *model.outputs]):
            output.get_tensor().set_names({name})
        return model


def _share(array: np.ndarray) -> ov.Tensor:
    return ov.Tensor(array, shared_memory=True)
