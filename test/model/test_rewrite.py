# SPDX-License-Identifier: Apache-2.0
"""Rewriting a network for inference changes its cost, not its function."""

import linecache

import numpy as np
import pytest
import torch
from torch import nn

from lw_refinenet_ros.model.network import ARCHITECTURES, build_model
from lw_refinenet_ros.model.rewrite import rewrite_for_inference
from lw_refinenet_ros.model.split_classifier import cheapest_split, rewrite_for_cpu, split_classifier
from lw_refinenet_ros.model.weights import load_model

SIZE = (67, 91)
SMALL = [name for name in ARCHITECTURES if not name.endswith(('resnet101', 'resnet152', 'lite1'))]


def network_of(architecture):
    """A network with statistics that a training might have left; 'trained' is the shipped one."""
    if architecture == 'trained':
        return load_model('camvid')[0]
    torch.manual_seed(3)
    network = build_model(architecture, 5, width=16).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.8, 1.2)
            nn.init.uniform_(layer.weight, 0.8, 1.2)
            nn.init.normal_(layer.bias, 0, 0.1)
    return network


def difference(ours, reference):
    return float(np.abs(ours - reference).max() / np.abs(reference).max())


@pytest.mark.parametrize('architecture', [*SMALL, 'trained'])
@torch.no_grad()
def test_logits_stay_the_same_in_pytorch_and_openvino(architecture):
    network = network_of(architecture)
    image = torch.randn(1, 3, *SIZE)
    reference = network.at_network_size(image).numpy()  # which leaves enlarging to whoever resizes
    rewritten = rewrite_for_inference(network)
    assert difference(rewritten(image).numpy(), reference) < 1e-4
    ov = pytest.importorskip('openvino')
    from openvino import opset13 as ops

    from lw_refinenet_ros.inference.openvino_graph import add_network

    x = ops.parameter([1, 3, *SIZE], np.float32)
    model = ov.Model([add_network(rewritten, x.output(0))], [x])
    compiled = ov.Core().compile_model(model, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    assert difference(compiled(image.numpy())[0], reference) < 1e-4


@pytest.mark.parametrize('architecture', ARCHITECTURES)
def test_rewriting_stays_on_the_networks_device_and_keeps_its_type(architecture):
    with torch.device('meta'):
        network = build_model(architecture, 21).half()
    rewritten = rewrite_for_inference(network)
    split_classifier(rewritten)
    tensors = dict(rewritten.named_parameters()) | dict(rewritten.named_buffers())
    found = {name: (t.device.type, t.dtype) for name, t in tensors.items()}
    assert found == dict.fromkeys(tensors, ('meta', torch.float16))
    image = torch.empty(1, 3, 64, 96, device='meta', dtype=torch.float16)
    assert rewritten(image).shape == (1, 21, 16, 24)


@torch.no_grad()
def test_no_batch_norm_is_left_and_the_network_itself_is_untouched():
    network = network_of('lw_refinenet_mobilenet_v2')
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    rewritten = rewrite_for_inference(network)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in rewritten.modules())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@torch.no_grad()
def test_a_pair_of_pointwise_convolutions_is_merged_only_where_that_is_cheaper():
    class Pair(nn.Module):
        def __init__(self, middle):
            super().__init__()
            self.first = nn.Conv2d(8, middle, 1)
            self.second = nn.Conv2d(middle, 8, 1)

        def forward(self, x):
            return self.second(self.first(x))

    x = torch.randn(1, 8, 5, 5)
    for middle, layers in ((32, 1), (2, 2)):
        pair = Pair(middle).eval()
        rewritten = rewrite_for_inference(pair)
        assert sum(isinstance(layer, nn.Conv2d) for layer in rewritten.modules()) == layers
        torch.testing.assert_close(rewritten(x), pair(x), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ('width', 'classes', 'kernels'),
    [
        (256, 21, ['1x3', '1x3', '3x1']),  # 384 outputs a pixel with the last pooling's in place of 544
        (256, 33, ['1x1', '1x3', '3x1']),  # 3 * 112 in place of 9 * 48, but no cheaper than the pooling's 256
        (64, 11, ['1x1', '3x3']),  # 3 * 48 are 9 * 16
    ],
)
def test_the_classifier_is_split_and_takes_in_the_last_pooling_only_where_that_is_cheaper(
    width, classes, kernels
):
    torch.manual_seed(5)
    network = build_model('lw_refinenet_mobilenet_v2', classes, width=width).eval()
    nn.init.normal_(network.decoder.classifier.bias)
    image = torch.randn(1, 3, *SIZE)
    rewritten = rewrite_for_inference(network)
    before = rewritten(image)
    split_classifier(rewritten)
    torch.testing.assert_close(rewritten(image), before, rtol=1e-4, atol=1e-5)
    calls = [node.target for node in rewritten.graph.nodes if node.op == 'call_module']
    layers = [layer for layer in map(rewritten.get_submodule, calls) if isinstance(layer, nn.Conv2d)]
    assert ['{}x{}'.format(*layer.kernel_size) for layer in layers][-len(kernels) :] == kernels


@pytest.mark.parametrize(
    ('inputs', 'outputs', 'pooled', 'split'),
    [
        (256, 21, True, 'rows with pooling'),
        (256, 21, False, 'rows'),
        (256, 33, True, 'rows'),
        (64, 11, True, 'none'),
        (64, 11, False, 'none'),
        (256, 16, False, 'none'),  # 9 * 16 either way, and the rows have to be summed
        (8, 1, False, 'rows'),  # 16 outputs either way, with a third of the taps
    ],
)
def test_the_cheapest_split_counts_multiply_adds_by_16_outputs(inputs, outputs, pooled, split):
    assert cheapest_split(inputs, outputs, pooled=pooled) == split


@torch.no_grad()
def test_a_network_without_a_3x3_classifier_stays_as_it_is():
    module = rewrite_for_inference(nn.Sequential(nn.Conv2d(3, 21, 1), nn.ReLU()))
    code = module.code
    split_classifier(module)
    assert module.code == code


def test_rewriting_keeps_no_sources_of_the_graphs_it_compiled():
    before = set(linecache.cache)
    rewrite_for_cpu(build_model('lw_refinenet_mobilenet_v2', 3, width=8))
    assert {name for name in set(linecache.cache) - before if name.startswith('<eval_with_key>')} == set()
