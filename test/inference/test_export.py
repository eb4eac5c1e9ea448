# SPDX-License-Identifier: Apache-2.0
"""An exported network gives the logits that it gives here."""

import importlib.util
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.inference.onnx_file import write_onnx
from lw_refinenet_ros.labels import LabelSet
from lw_refinenet_ros.model.network import build_model
from lw_refinenet_ros.model.weights import Card, load_model, save_model

needs_onnx = pytest.mark.skipif(importlib.util.find_spec('onnx') is None, reason='onnx is not installed')


@needs_onnx
@pytest.mark.parametrize(
    ('architecture', 'dials'),
    [
        ('lw_refinenet_mobilenet_v2', {}),
        ('lw_refinenet_efficientnet_lite0', {'least_size': (96, 160)}),
        ('lw_refinenet_resnet50', {}),
        ('refinenet_efficientnet_lite0', {}),
    ],
)
@pytest.mark.parametrize('size', [(64, 96), (75, 101)])
def test_onnx_runtime_gives_the_same_logits(tmp_path, architecture, dials, size):
    runtime = pytest.importorskip('onnxruntime')
    torch.manual_seed(0)
    network = build_model(architecture, 3, width=8, **dials).eval()
    labels = LabelSet('three', ('a', 'b', 'c'), ((0, 0, 0),) * 3)
    card = Card(architecture, 8, labels, (0.5,) * 3, (0.5,) * 3)
    write_onnx(network, card, tmp_path / 'a.onnx', size)
    session = runtime.InferenceSession(tmp_path / 'a.onnx', providers=['CPUExecutionProvider'])
    image = torch.randn(2, 3, *session.get_inputs()[0].shape[2:])
    with torch.no_grad():
        expected = network.at_network_size(image).numpy()
    (logits,) = session.run(['logits'], {'image': image.numpy()})
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())


@needs_onnx
def test_the_documented_export_fits_the_documented_trtexec_lines(tmp_path, monkeypatch):
    import onnx

    runtime = pytest.importorskip('onnxruntime')
    recipe = (Path(__file__).parents[2] / 'docs' / 'jetson.md').read_text().partition('## TensorRT')[2]
    (export,) = re.findall('^lw_refinenet (export .*)$', recipe, re.MULTILINE)
    shapes = {
        kind: [int(side) for side in shape.split('x')]
        for kind, shape in re.findall(r'--(\w*[sS]hapes)=image:([\dx]+)', recipe)
    }
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(export)) == 0
    model = onnx.load('camvid.onnx')
    assert [opset.version for opset in model.opset_import] == [13]
    (image,) = model.graph.input
    batch, *sides = (side.dim_param or side.dim_value for side in image.type.tensor_type.shape.dim)
    assert (image.name, batch) == ('image', 'N')
    assert all(shape[1:] == sides for shape in shapes.values())
    named = set(re.findall('[A-Z][a-zA-Z]+', re.findall(r'opset 13 \(([^)]*)\)', recipe)[0]))
    assert {node.op_type for node in model.graph.node} == named
    session = runtime.InferenceSession('camvid.onnx', providers=['CPUExecutionProvider'])
    network, _ = load_model('camvid')
    torch.manual_seed(0)
    for kind in ('minShapes', 'maxShapes'):
        pixels = torch.randn(shapes[kind])
        with torch.no_grad():
            expected = network.at_network_size(pixels).numpy()
        (logits,) = session.run(['logits'], {'image': pixels.numpy()})
        np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())


@needs_onnx
def test_the_file_says_how_to_use_it(tiny_weights, tmp_path, capsys):
    import onnx

    assert main(['export', str(tiny_weights), '--output', str(tmp_path / 'a.onnx'), '--size', '64x32']) == 0
    assert '(N, 3, 32, 64) float32 to logits of 3 classes' in capsys.readouterr().out
    about = {p.key: json.loads(p.value) for p in onnx.load(tmp_path / 'a.onnx').metadata_props}
    card = load_model(tiny_weights)[1]
    assert about['mean'] == list(card.mean)
    assert [c['name'] for c in about['labels']['classes']] == ['sky', 'road', 'car']


@needs_onnx
def test_the_shape_that_is_printed_is_that_of_the_file(tiny_weights, tmp_path, capsys):
    import onnx

    network, card = load_model(tiny_weights)
    weights, output = tmp_path / 'large.safetensors', tmp_path / 'a.onnx'
    save_model(weights, network, replace(card, dials={'least_size': (96, 160)}))
    assert main(['export', str(weights), '--output', str(output), '--size', '64x32']) == 0
    (image,) = onnx.load(output).graph.input
    height, width = (dimension.dim_value for dimension in image.type.tensor_type.shape.dim[2:])
    said, error = capsys.readouterr()
    assert f': (N, 3, {height}, {width}) float32' in said
    assert f'64x32 images have to be enlarged to {width}x{height}' in error


def test_without_onnx_one_line_says_what_to_install(tiny_weights, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda _: None)
    assert main(['export', str(tiny_weights), '--output', str(tmp_path / 'a.onnx')]) == 1
    assert (
        capsys.readouterr().err
        == 'lw_refinenet: exporting needs onnx, which is not installed: pip install onnx\n'
    )
    assert not (tmp_path / 'a.onnx').exists()


@pytest.mark.parametrize('name', ['a.bin', 'a', 'a.onnx.gz', 'a.engine'])
def test_a_file_of_another_format_is_wrong_usage(name, tmp_path, capsys):
    with pytest.raises(SystemExit, match='2'):
        main(['export', 'camvid', '--output', str(tmp_path / name)])
    assert f"{name}' must end in .onnx" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
