# SPDX-License-Identifier: Apache-2.0
"""What `info` and `receptive-field` tell about networks."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.model.network import build_model
from lw_refinenet_ros.model.receptive_field import influences, side_of_influence
from lw_refinenet_ros.model.weights import load_model, save_model

pytestmark = pytest.mark.usefixtures('one_thread')


def told(capsys, *arguments):
    """The rows that `info` prints, by their names."""
    assert main(['info', *map(str, arguments)]) == 0
    rows = (line.strip().partition('  ') for line in capsys.readouterr().out.splitlines())
    return {name: value.strip() for name, _, value in rows}


def test_info_of_an_architecture_gives_its_cost_without_a_file(capsys):
    rows = told(capsys, 'lw_refinenet_resnet50', '--size', '512x384')
    assert rows['architecture'] == 'lw_refinenet_resnet50, 21 classes'
    assert rows['parameters'] == '27,357,525'
    assert rows['multiply-adds'].startswith('23.98 G for one 512x384 image (encoder 16.01, decoder 7.97)')
    assert rows['encoder 3: stride 32'] == '16x12, 2048 channels'
    assert rows['decoder: stride 32'] == '16x12, 512 channels'
    assert rows['logits'] == '128x96, 21 channels'
    assert float(rows['rewritten'].split()[0]) < 23.98


def test_info_of_a_file_tells_its_classes_with_their_colours_and_where_it_came_from(capsys, tiny_weights):
    rows = told(capsys, tiny_weights, '--size', '64x64')
    assert rows['architecture'] == 'lw_refinenet_efficientnet_lite0, decoder 8 wide'
    assert rows['classes'] == '3 (tiny)'
    assert rows['1'] == 'road  rgb(80, 40, 140)'
    assert rows['logits'] == '16x16, 3 channels'


def test_info_of_a_file_tells_how_large_and_how_good_it_is_and_what_it_takes(
    capsys, tmp_path, enlarging_weights
):
    network, card = load_model(enlarging_weights)
    metrics = {'miou': 0.625, 'frames': 7, 'per_class_iou': {'sky': 0.0, 'road': 0.875}}
    card = replace(card, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), metrics=metrics, training={'epochs': 9})
    save_model(tmp_path / 'w.safetensors', network, card)
    rows = told(capsys, tmp_path / 'w.safetensors', '--size', '64x48')
    assert rows['file'].endswith(f'w.safetensors ({(tmp_path / "w.safetensors").stat().st_size:,} bytes)')
    assert rows['input'] == 'RGB / 255, mean 0.100/0.200/0.300, std 0.400/0.500/0.600'
    assert [rows[index].split(')')[1].strip() for index in '012'] == ['IoU 0.0%', 'IoU 87.5%', '']
    assert (rows['miou'], rows['epochs']) == ('62.5%', '9')
    assert rows['seen as'] == '256x192'
    assert 'seen as' not in told(capsys, tmp_path / 'w.safetensors', '--size', '320x240')


def test_info_of_an_unknown_architecture_names_those_that_are_known(capsys):
    assert main(['info', 'refinenet_vgg16']) == 1
    assert 'lw_refinenet_mobilenet_v2' in capsys.readouterr().err


def test_a_size_that_is_none_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as exited:
        main(['info', 'camvid', '--size', '640'])
    assert exited.value.code == 2
    assert "'640' is not WIDTHxHEIGHT" in capsys.readouterr().err


def test_a_unit_answers_only_to_pixels_within_its_theoretical_receptive_field():
    torch.manual_seed(0)
    network = build_model('lw_refinenet_resnet50', 3, width=16).eval().requires_grad_(requires_grad=False)
    fields = influences(network, torch.randn(1, 3, 192, 192))
    assert set(fields) == {(part, s) for part in ('encoder', 'sum', 'pooling') for s in (4, 8, 16, 32)}
    rows, columns = torch.nonzero(fields['encoder', 4], as_tuple=True)
    # 7x7 at stride 2, 3x3 pooling to stride 4, three 3x3 convolutions: 11 + 3 * 8 = 35 pixels
    for reached in (rows, columns):
        assert 11 < int(reached.max() - reached.min()) + 1 <= 35
        assert abs(float(reached.float().mean()) - 96) < 4
    assert all(float(field.sum()) == pytest.approx(1, abs=1e-4) for field in fields.values())
    assert side_of_influence(fields['sum', 4]) > side_of_influence(fields['encoder', 4])


def test_the_side_of_influence_is_that_of_the_smallest_square_around_the_middle():
    influence = torch.zeros(41, 61)
    influence[20, 30] = 0.8
    influence[17, 30] = 0.15
    influence[20, 50] = 0.05
    assert [side_of_influence(influence, share) for share in (0.5, 0.9, 0.99)] == [1, 7, 41]


def test_a_truncated_image_is_refused_and_not_filled_with_grey(tmp_path, capsys, tiny_weights, street):
    path = tmp_path / 'cut.jpg'
    path.write_bytes(cv2.imencode('.jpg', street)[1].tobytes()[:900])
    output = tmp_path / 'fields.png'
    command = ['receptive-field', str(path), '--weights', str(tiny_weights), '--output', str(output)]
    assert main(command) == 1
    assert main(['benchmark', '--image', str(path), '--weights', str(tiny_weights)]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert f'{path}: ' in first
    assert first == second
    assert 'truncated' in first
    assert not output.exists()


def test_receptive_field_draws_three_stages_of_four_strides(tmp_path, capsys, tiny_weights, street):
    for index in range(2):
        cv2.imwrite(str(tmp_path / f'{index}.png'), np.roll(street, 9 * index, axis=1))
    images = [str(tmp_path / f'{index}.png') for index in range(2)]
    output = tmp_path / 'field.png'
    command = ['receptive-field', *images, '--weights', str(tiny_weights), '--output', str(output)]
    assert main(command) == 0
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table[2:6]] == ['32', '16', '8', '4']
    panels = cv2.imread(str(output))
    assert panels.shape == (4 * (270 + 34 + 4), 3 * (360 + 4), 3)
    assert main(['receptive-field', str(tmp_path / 'none.png')]) == 1
    assert 'none.png' in capsys.readouterr().err
