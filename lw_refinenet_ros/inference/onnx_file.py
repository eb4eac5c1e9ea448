# SPDX-License-Identifier: Apache-2.0
"""Our networks as ONNX files, built node by node."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import json
import operator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from lw_refinenet_ros.files import write_atomically
from lw_refinenet_ros.model.inverted_residual import SamePadConv2d
from lw_refinenet_ros.model.network import Network, enlarged
from lw_refinenet_ros.model.rewrite import rewrite_for_inference
from lw_refinenet_ros.model.weights import Card

__all__ = ['write_onnx']

OPSET = 13  # as old as dynamic batches allow: TensorRT 8 ignores what Shape and Resize learnt later
IR = 8


def write_onnx(network: Network, card: Card, path: Path, image_size: tuple[int, int]) -> tuple[int, int]:
    """Write a network to a file.

    Its input `image` is float32 (N, 3, H, W), normalised RGB, already enlarged to the network's
    `least_size`; its output `logits` float32 (N, num_classes, ceil(H / 4), ceil(W / 4)). The file's
    metadata hold mean, std, temperature and the classes.

    Args:
        network: in evaluation mode, on the CPU.
        card: of its weights file.
        path: of the file.
        image_size: (height, width) of the images, before they are enlarged.

    Returns:
        (height, width) of the file's input.

    Raises:
        ValueError: onnx is not installed.
        NotImplementedError: the network has an operation that is not supported.
    """
    if importlib.util.find_spec('onnx') is None:
        raise ValueError('exporting needs onnx, which is not installed: pip install onnx')
    onnx: Any = importlib.import_module('onnx')
    height, width = enlarged(image_size, network.least_size)
    writer = _Writer(rewrite_for_inference(network), onnx)
    with torch.no_grad():
        logits = writer.run(_Value('image', torch.empty(1, 3, height, width, device='meta')))
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        writer.nodes,
        card.architecture,
        [value('image', onnx.TensorProto.FLOAT, ['N', 3, height, width])],
        [value(logits.name, onnx.TensorProto.FLOAT, ['N', *logits.meta.shape[1:]])],
        writer.constants,
    )
    opset = [onnx.helper.make_opsetid('', OPSET)]
    made_by = {'producer_name': 'lw_refinenet_ros', 'ir_version': IR}
    model = onnx.helper.make_model(graph, opset_imports=opset, **made_by)
    about = {name: card.to_dict()[name] for name in ('mean', 'std', 'temperature', 'labels')}
    onnx.helper.set_model_props(model, {name: json.dumps(v, ensure_ascii=False) for name, v in about.items()})
    onnx.checker.check_model(model, full_check=True)
    write_atomically(path, lambda file: onnx.save(model, str(file)))
    return height, width


class _Value:
    """A value of the graph: its name, and a tensor without memory that knows its shape."""

    def __init__(self, name: str, meta: Tensor) -> None:
        self.name, self.meta = name, meta
        self.shape = meta.shape


class _Writer(fx.Interpreter):
    """Runs a network's forward pass on names in place of tensors, and writes down what it does."""

    def __init__(self, network: fx.GraphModule, onnx: Any) -> None:
        super().__init__(network)
        self._onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def run_node(self, n: fx.Node) -> Any:
        """Write one fx node."""
        self._name = 'logits' if any(user.op == 'output' for user in n.users) else n.name
        return super().run_node(n)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Value:  # noqa: ARG002
        """Write one layer."""
        layer, (x,) = self.fetch_attr(target), args
        if isinstance(layer, nn.Conv2d):
            return self._convolution(layer, x)
        if isinstance(layer, nn.ReLU6):
            limits = [self._constant(f'{self._name}.{n}', np.float32(n)) for n in (0, 6)]
            return self._write('Clip', [x.name, *limits], x.meta)
        if isinstance(layer, nn.ReLU):
            return self._write('Relu', [x.name], x.meta)
        raise NotImplementedError(f'{target}: no ONNX node for {type(layer).__name__}')

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Write one function; what is not of the graph runs as it is."""
        first = args[0][0] if isinstance(args[0], (list, tuple)) else args[0]
        if not isinstance(first, _Value):
            return super().call_function(target, args, kwargs)
        if target is getattr:
            return getattr(first, args[1])
        meta = target(*_metas(args), **kwargs)
        if target in (operator.add, torch.add):
            return self._write('Add', [value.name for value in args], meta)
        if target is torch.cat:
            return self._write('Concat', [value.name for value in args[0]], meta, axis=1)
        if target is torch.relu:
            return self._write('Relu', [first.name], meta)
        if target is functional.max_pool2d:
            return self._max_pool(first, meta, *args[1:], **kwargs)
        if target is functional.interpolate and kwargs['mode'] == 'bilinear':
            corners = 'align_corners' if kwargs['align_corners'] else 'half_pixel'
            how = {'mode': 'linear', 'coordinate_transformation_mode': corners}
            return self._write('Resize', [first.name, '', '', self._sizes(first, meta.shape)], meta, **how)
        raise NotImplementedError(f'no ONNX node for {target}')

    def _convolution(self, layer: nn.Conv2d, x: _Value) -> _Value:
        if isinstance(layer, SamePadConv2d):
            begin, end = layer.pads(x.shape[2:])
        else:
            begin = end = [int(pad) for pad in layer.padding]
        inputs = [x.name, self._constant(f'{self._name}.weight', layer.weight.detach().numpy())]
        if layer.bias is not None:
            inputs.append(self._constant(f'{self._name}.bias', layer.bias.detach().numpy()))
        return self._write(
            'Conv',
            inputs,
            copy.deepcopy(layer).to('meta')(x.meta),
            kernel_shape=list(layer.kernel_size),
            strides=list(layer.stride),
            pads=[*begin, *end],
            dilations=list(layer.dilation),
            group=layer.groups,
        )

    def _max_pool(
        self, x: _Value, meta: Tensor, kernel: int, stride: int = 1, padding: int = 0, **_: object
    ) -> _Value:
        sizes = {'kernel_shape': [kernel] * 2, 'strides': [stride] * 2, 'pads': [padding] * 4}
        return self._write('MaxPool', [x.name], meta, **sizes)

    def _sizes(self, x: _Value, shape: torch.Size) -> str:
        """Write the nodes that compute a shape from the batch of `x`; return the name of the shape."""
        whole, batch, sizes = (f'{self._name}.{part}' for part in ('shape', 'batch', 'sizes'))
        ends = [self._constant(f'{self._name}.{end}', np.array([end], np.int64)) for end in (0, 1)]
        constants = self._constant(f'{self._name}.chw', np.array(shape[1:], np.int64))
        node = self._onnx.helper.make_node
        self.nodes += [
            node('Shape', [x.name], [whole]),
            node('Slice', [whole, *ends], [batch]),
            node('Concat', [batch, constants], [sizes], axis=0),
        ]
        return sizes

    def _write(self, kind: str, inputs: list[str], meta: Tensor, **attributes: Any) -> _Value:
        self.nodes.append(self._onnx.helper.make_node(kind, inputs, [self._name], self._name, **attributes))
        return _Value(self._name, meta)

    def _constant(self, name: str, array: npt.NDArray[Any] | np.float32) -> str:
        self.constants.append(self._onnx.numpy_helper.from_array(np.asarray(array), name))
        return name


def _metas(value: Any) -> Any:
    """Replace values by their meta tensors."""
    if isinstance(value, (list, tuple)):
        return [_metas(item) for item in value]
    return value.meta if isinstance(value, _Value) else value
