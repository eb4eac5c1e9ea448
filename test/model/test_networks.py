# SPDX-License-Identifier: Apache-2.0
"""The family of networks against the published ones, and what the dials do."""

import json
import re

import numpy as np
import pytest
import torch

from lw_refinenet_ros.model import upstream
from lw_refinenet_ros.model.cost import measure_cost
from lw_refinenet_ros.model.network import ARCHITECTURES, build_model, size_seen
from lw_refinenet_ros.model.rewrite import rewrite_for_inference
from lw_refinenet_ros.model.weights import load_model, read_card, save_model
from test.support import ROOT

pytestmark = pytest.mark.usefixtures('one_thread')

UPSTREAM = ROOT / 'test' / 'data' / 'upstream'
TOLERANCE = 1e-4  # of the largest absolute logit


def shape_of(architecture, num_classes=21, **dials):
    """The network without memory: names, shapes and costs are all there."""
    with torch.device('meta'):
        return build_model(architecture, num_classes, **dials).eval()


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def with_statistics(network):
    """The network with batch norms that do something, as after training."""
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.mark.parametrize('architecture', upstream.PUBLISHED)
def test_parameters_are_exactly_the_published_ones(architecture):
    published = json.loads((UPSTREAM / f'{architecture}.json').read_text())
    assert parameters(shape_of(architecture)) == published['parameters_at_21_classes']


@pytest.mark.parametrize(('number', 'millions'), [(0, 4.65), (1, 5.42), (2, 6.09)])
def test_efficientnet_lite_has_as_many_parameters_as_published(number, millions):
    network = shape_of(f'lw_refinenet_efficientnet_lite{number}')
    last = network.encoder.features[-1].channels
    classifier = last * 1280 + 2 * 1280 + 1280 * 1000 + 1000  # which the encoder leaves out
    assert round((parameters(network.encoder) + classifier) / 1e6, 2) == millions


@pytest.mark.parametrize('encoder', ['resnet50', 'resnet101', 'resnet152'])
def test_the_light_weight_network_is_the_original_with_1x1_convolutions_and_without_rcus(encoder):
    light = shape_of(f'lw_refinenet_{encoder}')
    original = shape_of(f'refinenet_{encoder}', kernel=1, rcus=(0, 0))
    shapes = ({name: t.shape for name, t in network.state_dict().items()} for network in (light, original))
    assert next(shapes) == next(shapes)


@pytest.mark.parametrize('architecture', ARCHITECTURES)
def test_any_encoder_with_either_decoder_gives_logits_at_stride_4(architecture):
    assert measure_cost(shape_of(architecture, 5), (97, 131)).maps['logits'] == (5, 25, 33)


@pytest.mark.parametrize(
    ('architecture', 'published'),
    [
        ('lw_refinenet_resnet50', 33),
        ('lw_refinenet_resnet101', 52),
        ('lw_refinenet_resnet152', 71),
        ('lw_refinenet_mobilenet_v2', 9.3),
    ],
)
def test_multiply_adds_are_the_published_ones_at_512x512_and_nyus_40_classes(architecture, published):
    total = measure_cost(shape_of(architecture, 40), (512, 512)).total() / 1e9
    assert total == pytest.approx(published, rel=0.01)
    # With 21 classes the classifier costs 0.72 G less: 8 % of the smallest network, 1 to 3 % of the others.
    fewer = measure_cost(shape_of(architecture, 21), (512, 512)).total() / 1e9
    assert total - fewer == pytest.approx(19 * 256 * 9 * 128 * 128 / 1e9)
    assert (fewer == pytest.approx(published, rel=0.05)) == ('resnet' in architecture)


def test_measuring_the_cost_leaves_the_network_as_it_was():
    network = build_model('lw_refinenet_mobilenet_v2', 3, width=8).eval()
    image = torch.rand(1, 3, 64, 64)
    before = network(image)
    measure_cost(network, (480, 640))
    assert torch.equal(network(image), before)
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(
    ('dials', 'removed'),
    [
        ({'kernel': 1}, None),
        ({'rcus': (0, 0)}, r'refine|output'),
        ({'crp_stages': 0}, r'pooling'),
    ],
)
def test_a_dial_takes_out_its_part_and_nothing_else(dials, removed):
    full, reduced = (
        {n for n in shape_of('refinenet_resnet50', **d).state_dict() if n.startswith('decoder')}
        for d in ({}, dials)
    )
    assert full - reduced == {name for name in full if removed and re.search(removed, name)}


def test_fewer_levels_give_logits_at_the_finest_stride_that_is_used():
    network = shape_of('lw_refinenet_mobilenet_v2', levels=2)
    assert measure_cost(network, (97, 131)).maps['logits'] == (21, 7, 9)
    assert network.decoder.strides == [16, 32]


@pytest.mark.parametrize(
    'dials',
    [
        {'width': 0},
        {'kernel': 0},
        {'kernel': 2},
        {'rcus': (0, -1)},
        {'crp_stages': 10**9},
        {'levels': 5},
    ],
)
def test_a_dial_out_of_its_range_is_refused_by_name(dials):
    with pytest.raises(ValueError, match=f'^{next(iter(dials))}'):
        build_model('lw_refinenet_resnet50', 21, **dials)


def test_an_unknown_architecture_is_refused_with_those_that_are_known():
    with pytest.raises(ValueError, match=r"'lw_refinenet_vgg16'.*lw_refinenet_resnet50"):
        build_model('lw_refinenet_vgg16', 21)


def test_dials_are_kept_in_the_weights_file(tiny_weights, tmp_path):
    from dataclasses import replace

    dials = {'kernel': 3, 'rcus': [1, 0], 'crp_stages': 2, 'levels': 3}
    card = replace(read_card(tiny_weights), dials=dials)
    network = build_model(card.architecture, 3, width=card.width, **dials).eval()
    save_model(tmp_path / 'dials.safetensors', network, card, torch.float32)
    again, kept = load_model(tmp_path / 'dials.safetensors')
    assert kept.dials == dials
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(network(image), again(image))


# The deeper ResNets and Lite1 have no layer that these have not.
@pytest.mark.parametrize(
    'architecture', [a for a in ARCHITECTURES if not a.endswith(('101', '152', 'lite1'))]
)
def test_the_rewritten_network_in_openvino_computes_the_same_logits_at_an_odd_size(architecture):
    ov = pytest.importorskip('openvino')
    from openvino import opset13 as ops

    from lw_refinenet_ros.inference.openvino_graph import add_network

    torch.manual_seed(0)
    network = with_statistics(build_model(architecture, 7, width=32))
    image = torch.randn(1, 3, 97, 131)
    with torch.no_grad():
        expected = network(image).numpy()
    node = ops.parameter([1, 3, 97, 131], np.float32)
    graph = ov.Model([add_network(rewrite_for_inference(network), node.output(0))], [node], architecture)
    logits = ov.compile_model(graph, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32', 'INFERENCE_NUM_THREADS': 1})(
        image.numpy()
    )[0]
    assert np.abs(logits - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize(
    ('image', 'wanted', 'seen'),
    [
        ((1080, 1920), (0, 0), (1080, 1920)),
        ((240, 320), (0, 0), (480, 640)),
        ((300, 320), (0, 0), (480, 512)),
        ((120, 320), (0, 0), (240, 640)),
        ((100, 640), (0, 0), (100, 640)),  # fills one direction
        ((1080, 1920), (360, 0), (360, 640)),
        ((1080, 1920), (0, 640), (360, 640)),
        ((1080, 1920), (96, 640), (96, 640)),
        ((2, 4000), (0, 64), (1, 64)),
        ((4000, 2), (64, 0), (64, 1)),
    ],
)
def test_the_size_seen_follows_the_shape_of_the_image_where_it_is_free(image, wanted, seen):
    assert size_seen(image, wanted, (480, 640)) == seen
