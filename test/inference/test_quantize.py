# SPDX-License-Identifier: Apache-2.0
"""A file with int8 ranges runs as they say in OpenVINO; in float elsewhere, or where that costs too much."""

import dataclasses
import importlib.util
import os
import subprocess
import sys

import av
import cv2
import numpy as np
import pytest
import torch
from torch import fx, nn

pytest.importorskip('openvino')

from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.cli.quantize import _frames
from lw_refinenet_ros.inference.choice import make_engine
from lw_refinenet_ros.inference.engine import EngineError
from lw_refinenet_ros.inference.openvino_engine import native_precisions
from lw_refinenet_ros.inference.quantize import find_quantization
from lw_refinenet_ros.labels import LabelSet
from lw_refinenet_ros.model.split_classifier import rewrite_for_cpu
from lw_refinenet_ros.model.weights import WeightsError, load_model, save_model
from lw_refinenet_ros.training.label_folder import LabelFolder

needs_nncf = pytest.mark.skipif(importlib.util.find_spec('nncf') is None, reason='NNCF is not installed')


class Watch(fx.Interpreter):
    """Notes in which range the input of each convolution lies."""

    def __init__(self, network):
        super().__init__(network)
        self.activations = []

    def run_node(self, n):
        if n.op == 'call_module' and isinstance(self.fetch_attr(n.target), nn.Conv2d):
            x = self.env[n.args[0]]
            low, high = min(float(x.min()), 0.0), float(x.max())
            item = {'source': n.args[0].name, 'consumers': [n.name], 'low': [low], 'high': [high]}
            self.activations.append(item)
        return super().run_node(n)


def with_ranges(source, target, pictures, **accuracy):
    """Store the ranges that pictures of (96, 128) show, all convolutions in int8."""
    network, card = load_model(source)
    watch = Watch(rewrite_for_cpu(network))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (card.mean, card.std))
    with torch.no_grad():
        watch.run((torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255 - mean) / std)
    names = [name for item in watch.activations for name in item['consumers']]
    quantization = {'activations': watch.activations, 'weights': names}
    if accuracy:
        quantization['accuracy'] = accuracy
    save_model(target, network, dataclasses.replace(card, quantization=quantization))
    return target


@pytest.fixture(scope='module')
def quantized(tiny_weights, tmp_path_factory):
    """The tiny network with the ranges of one picture, said to be accurate."""
    path = tmp_path_factory.mktemp('int8') / 'int8.safetensors'
    return with_ranges(tiny_weights, path, picture()[None], frames=1, agreement=0.991)


def picture():
    noise = np.random.default_rng(7).integers(0, 255, (12, 16, 3), np.uint8)
    return cv2.resize(noise, (128, 96), interpolation=cv2.INTER_CUBIC)


def write_labelled(folder, weights, names=('sky', 'road', 'car')):
    """Write two pictures and the masks that a network gives them in float32."""
    classes = [{'name': name, 'color': [80 * index] * 3} for index, name in enumerate(names)]
    written = LabelFolder(folder, LabelSet.from_dict({'name': 'three', 'ignore': 255, 'classes': classes}))
    segmenter = load(weights, engine='openvino', precision='fp32')
    for name, image in (('a', picture()), ('b', picture()[::-1])):
        cv2.imwrite(str(folder / 'images' / f'{name}.png'), image[..., ::-1])
        cv2.imwrite(str(written.mask(name)), segmenter.segment(image).label)
    return folder


def load(path, **options):
    return Segmenter.load(str(path), threads=1, **options)


def test_auto_runs_int8_only_without_native_bf16_and_says_how_good_it_is(quantized):
    engine = load(quantized).engine
    if 'bf16' in native_precisions():
        assert (engine.name, engine.precision) == ('openvino', 'bf16')
    else:
        assert (engine.name, engine.precision) == ('openvino', 'int8')
        assert "int8 gives float32's label on 99.10% of the pixels" in engine.description


def test_auto_runs_float_where_int8_is_not_good_enough_and_says_so(tiny_weights, tmp_path):
    path = with_ranges(tiny_weights, tmp_path / 'bad.safetensors', picture()[None], frames=1, agreement=0.9)
    engine = load(path).engine
    assert engine.precision in ('bf16', 'fp32')
    if engine.precision == 'fp32':
        assert 'int8 is not used: it gives' in engine.description
        assert '90.00%' in engine.description


@pytest.mark.parametrize('isa', ['', 'AVX2'])
def test_the_largest_products_of_int8_add_up_on_every_cpu(isa):
    """Without VNNI they are added in pairs in 16 bits; ONEDNN_MAX_CPU_ISA makes a newer CPU do so too."""
    env = os.environ | ({'ONEDNN_MAX_CPU_ISA': isa} if isa else {})
    subprocess.run([sys.executable, '-c', LARGEST_PRODUCTS], env=env, check=True)


LARGEST_PRODUCTS = """
import numpy as np, openvino as ov, torch
from openvino import opset13 as ops
from torch import nn
from lw_refinenet_ros.inference.openvino_graph import add_network
from lw_refinenet_ros.model.rewrite import trace

class Sums(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(64, 64, 1, bias=False)
        alternating = torch.tensor([1.0, 0.004]).repeat(32)
        rows = torch.stack([torch.ones(64), -torch.ones(64), alternating, -alternating]).repeat(16, 1)
        self.layer.weight.data = rows.view(64, 64, 1, 1)
        self.depthwise = nn.Conv2d(64, 64, (3, 1), (3, 1), groups=64, bias=False)
        signs = torch.tensor([1.0, -1.0]).repeat(32)
        self.depthwise.weight.data = signs.view(64, 1, 1, 1).repeat(1, 1, 3, 1)

    def forward(self, image):
        return torch.cat([self.layer(image), self.depthwise(image)], 2)

image = ops.parameter([1, 64, 9, 8], np.float32)
names = ['layer', 'depthwise']
activation = {'source': 'image', 'consumers': names, 'low': [0.0], 'high': [255.0]}
ranges = {'activations': [activation], 'weights': names}
sums = add_network(trace(Sums()), image.output(0), ranges)
compiled = ov.Core().compile_model(ov.Model([sums], [image]), 'CPU')
result = compiled(np.full((1, 64, 9, 8), 255, np.float32))[0]
for row, expected in enumerate(255 * np.array([64, -64, 32, -32])):
    np.testing.assert_allclose(result[:, row::4, :9], expected, rtol=0.01)
for row, expected in enumerate(255 * np.array([3, -3])):
    np.testing.assert_allclose(result[:, row::2, 9:], expected, rtol=0.001)
"""


@pytest.mark.parametrize('name', ['camvid', 'camvid_mobilenet_v2'])
def test_int8_gives_the_labels_of_float_where_the_network_is_sure_but_is_not_float(name):
    photo = pytest.importorskip('sklearn.datasets').load_sample_image('china.jpg')
    photo = cv2.resize(photo, (480, 320), interpolation=cv2.INTER_AREA)
    exact = load(name, engine='openvino', precision='fp32').segment(photo, confidence=True)
    rounded = load(name, precision='int8').segment(photo, confidence=True)
    sure = exact.confidence > 200
    assert sure.mean() > 0.5
    assert (exact.label == rounded.label)[sure].mean() > 0.998
    assert (exact.label == rounded.label).mean() > 0.97
    assert np.abs(exact.confidence.astype(int) - rounded.confidence).mean() > 0.1


def scene(seed):
    """Paint a sky, a road and a car, uint8 (192, 256, 3), and their mask."""
    random = np.random.default_rng(seed)
    mask = np.zeros((192, 256), np.uint8)
    mask[int(random.integers(80, 110)) :] = 1
    x, y = int(random.integers(0, 180)), int(random.integers(100, 120))
    mask[y : y + 50, x : x + 70] = 2
    colors = np.array([(200, 215, 235), (90, 90, 95), (190, 30, 40)])
    noisy = colors[mask] + random.normal(0, 6, (192, 256, 3))
    return cv2.GaussianBlur(np.clip(noisy, 0, 255).astype(np.uint8), (0, 0), 1), mask


@pytest.fixture(scope='module')
def sure_weights(tiny_weights, tmp_path_factory):
    """The tiny network with a classifier fitted to scenes: its labels of other scenes are sure."""
    network, card = load_model(tiny_weights)
    pictures, masks = zip(*(scene(seed) for seed in range(4)))
    features = []
    hook = network.decoder.classifier.register_forward_pre_hook(lambda _, inputs: features.append(*inputs))
    with torch.no_grad():
        network((torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5)
        hook.remove()
        taps = nn.functional.unfold(features[0], 3, padding=1).transpose(1, 2).flatten(0, 1).double()
        taps = torch.cat([taps, torch.ones(len(taps), 1)], 1)
        ids = torch.from_numpy(np.stack(masks)[:, 2::4, 2::4]).long().flatten()
        wanted = 20.0 * nn.functional.one_hot(ids, 3).double() - 10
        damping = 1e-3 * len(taps) * torch.eye(taps.shape[1])
        fitted = torch.linalg.solve(taps.T @ taps + damping, taps.T @ wanted).float()
        network.decoder.classifier.weight.copy_(fitted[:-1].T.reshape(3, -1, 3, 3))
        network.decoder.classifier.bias.copy_(fitted[-1])
    path = tmp_path_factory.mktemp('sure') / 'sure.safetensors'
    save_model(path, network, card)
    return path


def test_an_activation_is_kept_within_its_range(quantized):
    network, card = load_model(quantized)
    first = card.quantization['activations'][0]
    narrow = {'activations': [first | {'low': [-1e-3], 'high': [1e-3]}], 'weights': []}
    card = dataclasses.replace(card, quantization=narrow)
    engine = make_engine(network, card, device='cpu', engine='auto', precision='int8', threads=1)
    plain = load(quantized, engine='openvino', precision='fp32').segment(picture()).label
    assert (Segmenter(engine, card).segment(picture()).label != plain).mean() > 0.2


def test_the_float_weights_are_kept(quantized, tiny_weights):
    kept = load_model(quantized)[0].state_dict()
    for name, tensor in load_model(tiny_weights)[0].state_dict().items():
        assert torch.equal(kept[name], tensor)


def test_every_engine_runs_the_float_weights(quantized):
    engine = load(quantized, engine='torch').engine
    assert (engine.name, engine.precision) == ('torch', 'fp16' if engine.device == 'cuda' else 'fp32')
    with pytest.raises(EngineError, match='runs in OpenVINO on an x86 CPU'):
        load(quantized, engine='torch', precision='int8')


def test_without_ranges_int8_is_refused(tiny_weights):
    with pytest.raises(EngineError, match='run `lw_refinenet quantize`'):
        load(tiny_weights, precision='int8')


def test_ranges_of_nodes_that_are_not_there_are_refused(quantized):
    network, card = load_model(quantized)
    ranges = {'activations': [], 'weights': ['encoder_of_old']}
    card = dataclasses.replace(card, quantization=ranges)
    engine = make_engine(network, card, device='cpu', engine='auto', precision='int8', threads=1)
    with pytest.raises(ValueError, match="'encoder_of_old', which this version does not have"):
        Segmenter(engine, card).segment(picture())


@pytest.mark.parametrize(
    'activation',
    [
        {'source': 'image', 'consumers': ['a'], 'low': [1.0], 'high': [-1.0]},
        {'source': 'image', 'consumers': ['a'], 'low': [], 'high': [1.0]},
        {'source': 'image', 'consumers': ['a'], 'low': [float('nan')], 'high': [1.0]},
        {'source': 'image', 'consumers': [], 'low': [0.0], 'high': [1.0]},
        {'consumers': ['a'], 'low': [0.0], 'high': [1.0]},
        'image',
    ],
)
def test_damaged_ranges_are_refused_when_the_file_is_read(tiny_weights, tmp_path, activation):
    network, card = load_model(tiny_weights)
    card = dataclasses.replace(card, quantization={'activations': [activation], 'weights': []})
    save_model(tmp_path / 'bad.safetensors', network, card)
    with pytest.raises(WeightsError):
        load_model(tmp_path / 'bad.safetensors')


def test_frames_are_spread_over_a_video_that_does_not_tell_its_length(tmp_path):
    path = str(tmp_path / 'v.mkv')
    with av.open(path, 'w') as video:
        stream = video.add_stream('h264', rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        for index in range(24):
            image = np.full((48, 64, 3), 10 * index, np.uint8)
            video.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
        video.mux(stream.encode())
    brightness = [float(image.mean()) for image in _frames(path, None, 4)]
    np.testing.assert_allclose(brightness, [0, 60, 120, 180], atol=5)


def test_without_nncf_one_line_says_what_to_install(tiny_weights, tmp_path, capsys, monkeypatch):
    for name in 'ab':
        cv2.imwrite(str(tmp_path / f'{name}.png'), picture())
    monkeypatch.setattr(importlib.util, 'find_spec', lambda _: None)
    output = tmp_path / 'int8.safetensors'
    assert main(['quantize', str(tiny_weights), '--data', str(tmp_path), '--output', str(output)]) == 1
    said = 'lw_refinenet: quantizing needs NNCF, which is not installed: pip install nncf\n'
    assert capsys.readouterr().err == said
    assert not output.exists()


@needs_nncf
def test_ranges_are_found_at_the_size_that_small_images_are_enlarged_to(
    enlarging_weights, street, monkeypatch
):
    shapes = []
    monkeypatch.setattr('nncf.quantize', lambda model, *_, **__: shapes.append(model.input(0).shape) or model)
    find_quantization(*load_model(enlarging_weights), [street])
    assert [list(shape) for shape in shapes] == [[1, 3, 192, 256]]


@needs_nncf
def test_the_command_writes_what_int8_runs_and_what_it_costs(sure_weights, tmp_path, capfd):
    for index in range(4):
        cv2.imwrite(str(tmp_path / f'{index}.png'), scene(10 + index)[0][..., ::-1])
    output = tmp_path / 'int8.safetensors'
    command = ['quantize', str(sure_weights), '--data', str(tmp_path), '--frames', '2']
    assert main([*command, '--output', str(output), '--float', 'last']) == 0
    said, progress = capfd.readouterr()
    assert 'ranges from 2 frames; on 2 others 9' in said
    assert 'INFO' not in said + progress  # of NNCF
    network, card = load_model(output)
    module = rewrite_for_cpu(network)
    calls = [node for node in module.graph.nodes if node.op == 'call_module']
    layers = [(node.name, module.get_submodule(node.target)) for node in calls]
    *convolutions, _ = (name for name, layer in layers if isinstance(layer, nn.Conv2d))
    assert set(card.quantization['weights']) == set(convolutions)  # all but the last
    assert {'image', 'add'} <= {item['source'] for item in card.quantization['activations']}
    assert card.quantization['accuracy']['frames'] == 2
    assert card.quantization['accuracy']['agreement'] >= 0.98
    exact, rounded = (load(output, engine='openvino', precision=precision) for precision in ('fp32', 'int8'))
    image, mask = scene(20)
    label = exact.segment(image).label
    assert (label == mask).mean() > 0.9
    assert (rounded.segment(image).label == label).mean() > 0.98


@needs_nncf
def test_labels_too_far_from_those_of_float_are_an_error_with_the_figure_and_the_remedy(
    tiny_weights, tmp_path, capsys
):
    """The tiny network is not trained, so that hardly a label of it is sure."""
    data = write_labelled(tmp_path / 'data', tiny_weights)
    output = tmp_path / 'int8.safetensors'
    command = ['quantize', str(tiny_weights), '--data', str(data / 'images'), '--held-out', str(data)]
    assert main([*command, '--output', str(output), '--float', 'depthwise']) == 1
    said, error = capsys.readouterr()
    quantization = load_model(output)[1].quantization
    assert not any('depthwise' in name for name in quantization['weights'])
    accuracy = quantization['accuracy']
    assert accuracy['agreement'] < 0.98
    assert accuracy['float_miou'] == 1
    assert f'on 2 others {accuracy["agreement"]:.2%} of the pixels' in said
    assert f'mIoU {accuracy["miou"]:.1%} instead of 100.0%' in said
    last = error.splitlines()[-1]
    assert last.startswith(f"lw_refinenet: {output}: 'auto' runs its float weights, since in int8 it gives ")
    assert 'instead of 100.0%, less than 98%; try more' in last
    assert '--float depthwise, first or last' in last


def test_held_out_masks_of_other_classes_are_refused(tiny_weights, tmp_path, capsys):
    data = write_labelled(tmp_path, tiny_weights, names=('sky', 'road', 'tree'))
    command = ['quantize', str(tiny_weights), '--data', str(data / 'images'), '--held-out', str(data)]
    assert main([*command, '--output', str(tmp_path / 'int8.safetensors')]) == 1
    assert 'its classes are sky, road, tree, not those of the weights' in capsys.readouterr().err


def test_one_frame_is_not_enough(tiny_weights, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / 'a.png'), picture())
    command = ['quantize', str(tiny_weights), '--data', str(tmp_path), '--output', str(tmp_path / 'x')]
    assert main(command) == 1
    assert 'at least 2 frames are needed' in capsys.readouterr().err
