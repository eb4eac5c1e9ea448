# SPDX-License-Identifier: Apache-2.0
"""'auto' uses what a benchmark on this machine found, and says so."""

import json
from dataclasses import replace

import cv2
import pytest

from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.inference.measured import Choice, measured_path, read_measured, save_measured
from lw_refinenet_ros.model.weights import load_model, save_model

ARCHITECTURE = 'lw_refinenet_efficientnet_lite0'
TORCH, OPENVINO = Choice('torch', 'cpu', 'fp32'), Choice('openvino', 'cpu', 'fp32')


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))


def test_auto_takes_the_fastest_that_was_measured(tiny_weights):
    save_measured(ARCHITECTURE, [TORCH, OPENVINO])
    engine = Segmenter.load(str(tiny_weights), threads=1).engine
    assert (engine.name, engine.precision) == ('torch', 'fp32')
    assert engine.description.endswith('; the fastest here by `lw_refinenet benchmark --save`')
    pytest.importorskip('openvino')
    asked = Segmenter.load(str(tiny_weights), engine='openvino', threads=1).engine
    assert (asked.name, asked.precision) == ('openvino', 'fp32')


def test_each_architecture_keeps_its_own():
    save_measured(ARCHITECTURE, [TORCH])
    save_measured('lw_refinenet_resnet50', [OPENVINO])
    assert read_measured(ARCHITECTURE) == [TORCH]
    assert read_measured('lw_refinenet_resnet50') == [OPENVINO]


@pytest.mark.parametrize(
    'spoil',
    [
        lambda text: text.replace('"cpus": ', '"cpus": 1'),
        lambda text: text[:20],
        lambda _: '[]',
        lambda _: '{"machine": null, "fastest": 3}',
        lambda text: text.replace('"torch"', '"\\u001b[31m"'),
        lambda text: text.replace('"fp32"', '32'),
        lambda _: '[' * 100_000,
    ],
)
def test_a_file_of_another_machine_or_a_damaged_one_is_not_used(spoil):
    save_measured(ARCHITECTURE, [TORCH])
    measured_path().write_text(spoil(measured_path().read_text()))
    assert read_measured(ARCHITECTURE) == []


def test_the_command_measures_prints_stores_and_saves(tiny_weights, tmp_path, capsys):
    pytest.importorskip('openvino')
    command = ['benchmark', '--weights', str(tiny_weights), '--size', '64x48', '96x32', '--rounds', '2']
    assert main([*command, '--threads', '1', '--save', '--json', str(tmp_path / 'a.json')]) == 0
    tables = json.loads((tmp_path / 'a.json').read_text())['tables']
    assert [table['size'] for table in tables] == [[48, 64], [32, 96]]
    rows = {row['name']: row for row in tables[0]['rows']}
    assert {'published pipeline', 'torch cpu fp32', 'openvino cpu fp32'} <= set(rows)
    assert 'torch cpu int8' not in rows
    assert rows['torch cpu fp32']['agreement'] == 1
    row = rows['openvino cpu fp32']
    assert row['agreement'] > 0.99
    assert row['stages_ms'].keys() == {'segment', 'overlay'}
    assert min(row['stages_ms'].values()) > 0
    quickest = min(
        (row for name, row in rows.items() if name != 'published pipeline'), key=lambda r: r['p50_ms']
    )
    assert f"'auto' takes {quickest['name']}" in capsys.readouterr().out
    assert read_measured(ARCHITECTURE)[0] == Choice(*quickest['name'].split())


def test_an_int8_with_other_labels_is_not_kept_for_auto(tiny_weights, street, tmp_path, capsys):
    pytest.importorskip('openvino')
    network, card = load_model(tiny_weights)
    narrow = {'source': 'image', 'consumers': ['encoder_stem_1_rewritten'], 'low': [-1e-3], 'high': [1e-3]}
    accuracy = {'frames': 1, 'agreement': 1.0}
    quantization = {'activations': [narrow], 'weights': [], 'accuracy': accuracy}
    weights = tmp_path / 'int8.safetensors'
    save_model(weights, network, replace(card, quantization=quantization))
    image = tmp_path / 'street.png'
    cv2.imwrite(str(image), street)
    command = ['benchmark', '--weights', str(weights), '--size', '64x48', '--rounds', '1', '--threads', '1']
    assert main([*command, '--image', str(image), '--save']) == 0
    assert "openvino cpu int8 is not for 'auto': it gives " in capsys.readouterr().out
    kept = read_measured(ARCHITECTURE)
    assert kept
    assert 'int8' not in {choice.precision for choice in kept}


def test_without_a_home_nothing_was_measured_and_saving_names_the_remedy(monkeypatch):
    def no_home():
        raise RuntimeError('Could not determine home directory.')

    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    monkeypatch.setattr('pathlib.Path.home', no_home)
    assert read_measured('lw_refinenet_mobilenet_v2') == []
    with pytest.raises(OSError, match='set XDG_CACHE_HOME to a folder that can be written'):
        save_measured('lw_refinenet_mobilenet_v2', [])
