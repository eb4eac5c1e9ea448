# SPDX-License-Identifier: Apache-2.0
"""'auto' uses what a benchmark on this machine found, and says so."""

import json

import pytest

from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.inference.measured import Choice, fastest, measured_path, save_measured

ARCHITECTURE = 'lw_refinenet_efficientnet_lite0'
ANY = Choice('auto', 'auto', 'auto')
TORCH, OPENVINO = Choice('torch', 'cpu', 'fp32'), Choice('openvino', 'cpu', 'fp32')
INT8 = Choice('openvino', 'cpu', 'int8')


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))


def test_auto_takes_the_fastest_that_was_measured(tiny_weights):
    save_measured(ARCHITECTURE, [TORCH, OPENVINO])
    engine = Segmenter.load(str(tiny_weights), threads=1).engine
    assert (engine.name, engine.precision) == ('torch', 'fp32')
    assert engine.description.endswith('; the fastest here by `lw_refinenet benchmark --save`')
    asked = Segmenter.load(str(tiny_weights), engine='openvino', threads=1).engine
    assert (asked.name, asked.precision) == ('openvino', 'fp32')


def test_what_is_asked_for_comes_first():
    save_measured(ARCHITECTURE, [INT8, TORCH, OPENVINO])
    assert fastest(ARCHITECTURE, ANY, int8=True) == INT8
    assert fastest(ARCHITECTURE, ANY, int8=False) == TORCH
    assert fastest(ARCHITECTURE, ANY._replace(engine='openvino'), int8=False) == OPENVINO
    assert fastest(ARCHITECTURE, ANY._replace(precision='bf16'), int8=False) is None
    assert fastest('lw_refinenet_resnet50', ANY, int8=False) is None


def test_each_architecture_keeps_its_own():
    save_measured(ARCHITECTURE, [TORCH])
    save_measured('lw_refinenet_resnet50', [OPENVINO])
    assert fastest(ARCHITECTURE, ANY, int8=False) == TORCH
    assert fastest('lw_refinenet_resnet50', ANY, int8=False) == OPENVINO


@pytest.mark.parametrize(
    'spoil',
    [
        lambda text: text.replace('"cpus": ', '"cpus": 1'),
        lambda text: text[:20],
        lambda _: '[]',
        lambda _: '{"machine": null, "fastest": 3}',
    ],
)
def test_a_file_of_another_machine_or_a_damaged_one_is_not_used(spoil):
    save_measured(ARCHITECTURE, [TORCH])
    measured_path().write_text(spoil(measured_path().read_text()))
    assert fastest(ARCHITECTURE, ANY, int8=False) is None


def test_the_command_measures_prints_stores_and_saves(tiny_weights, tmp_path, capsys):
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
    assert 0 < sum(row['stages_ms'].values()) < 3 * row['p95_ms']
    quickest = min(
        (row for name, row in rows.items() if name != 'published pipeline'), key=lambda r: r['p50_ms']
    )
    assert f"'auto' takes {quickest['name']}" in capsys.readouterr().out
    assert fastest(ARCHITECTURE, ANY, int8=False) == Choice(*quickest['name'].split())
