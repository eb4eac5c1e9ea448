# SPDX-License-Identifier: Apache-2.0
"""Weights files: written whole, read with every fault named."""

import json
import resource
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lw_refinenet_ros.model.weights import WeightsError, load_model, read_card, save_model
from lw_refinenet_ros.resources import find_weights, share_path
from test.support.tiny_network import write_tiny_weights


def rewritten(source, target, change=lambda tensors, header: None):
    with safe_open(source, framework='pt') as file:
        header = json.loads(file.metadata()['lw_refinenet_ros'])
    tensors = load_file(source)
    change(tensors, header)
    save_file(tensors, target, metadata={'lw_refinenet_ros': json.dumps(header)})
    return target


def test_a_network_comes_back_as_it_was_stored(tiny_weights, tmp_path):
    network, card = load_model(tiny_weights)
    save_model(tmp_path / 'again.safetensors', network, card)
    again, same = load_model(tmp_path / 'again.safetensors')
    assert same == card
    assert not again.training
    image = torch.rand(1, 3, 33, 47)
    with torch.no_grad():
        assert torch.equal(network(image), again(image))


@pytest.mark.parametrize('name', ['', 'no_such', 'x' * 300, 'a\0b'])
def test_a_name_that_no_shipped_weights_have_is_refused_however_long_it_is(name):
    with pytest.raises(ValueError, match='unknown weights '):
        find_weights(name)


def test_the_nearest_shipped_name_and_the_file_of_a_run_are_suggested(tmp_path, monkeypatch):
    with pytest.raises(
        ValueError, match=r"unknown weights 'Camvit': did you mean 'camvid'\? choose one of camvid, "
    ):
        find_weights('Camvit')
    (tmp_path / 'mine').write_bytes(b'')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r'the file here is \./mine'):
        find_weights('mine')
    (tmp_path / 'last.safetensors').write_bytes(b'')
    with pytest.raises(ValueError, match=f'did you mean {tmp_path}/last.safetensors'):
        find_weights(str(tmp_path))


def test_values_that_float16_cannot_hold_are_not_stored_and_the_old_file_stays(tiny_weights, tmp_path):
    path = tmp_path / 'kept.safetensors'
    path.write_bytes(tiny_weights.read_bytes())
    network, card = load_model(path)
    network.decoder.classifier.bias.data[0] = 1e6
    with pytest.raises(WeightsError, match=r'decoder\.classifier\.bias has values that float16 cannot hold'):
        save_model(path, network, card)
    assert path.read_bytes() == tiny_weights.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('name', ['camvid', 'camvid_mobilenet_v2'])
def test_shipped_weights_hold_int8_ranges_that_keep_the_labels(name):
    path = find_weights(name)
    card = read_card(path)
    accuracy = card.quantization['accuracy']
    assert accuracy['agreement'] >= 0.99
    assert accuracy['float_miou'] - accuracy['miou'] <= 0.005
    assert path.stat().st_size < 12_000_000
    assert not card.training['init'].startswith('/')  # a path of the machine it was trained on


@pytest.mark.parametrize(
    'accuracy', [{}, {'agreement': 1.5}, {'agreement': float('nan')}, {'agreement': 0.9, 'miou': 0.5}, 'good']
)
def test_a_damaged_accuracy_of_int8_is_refused(tiny_weights, tmp_path, accuracy):
    quantization = {'activations': [], 'weights': [], 'accuracy': accuracy}
    path = rewritten(tiny_weights, tmp_path / 'x', lambda _, header: header.update(quantization=quantization))
    with pytest.raises(WeightsError, match='cannot be used'):
        read_card(path)


def test_a_full_disk_is_an_error_of_the_disk_that_names_the_file(tiny_weights, tmp_path):
    path = tmp_path / 'new.safetensors'
    program = (
        'import sys, pathlib\nfrom lw_refinenet_ros.model.weights import load_model, save_model\n'
        'save_model(pathlib.Path(sys.argv[2]), *load_model(pathlib.Path(sys.argv[1])))\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', program, tiny_weights, path],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert done.stderr.splitlines()[-1] == f"OSError: [Errno 27] File too large: '{path}'"
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r'none\.safetensors: No such file'):
        load_model(tmp_path / 'none.safetensors')


@pytest.mark.parametrize('kept', [0, 7, 100, 0.5, 0.999])
def test_a_truncated_file_is_refused(tiny_weights, tmp_path, kept):
    content = tiny_weights.read_bytes()
    path = tmp_path / 'cut.safetensors'
    path.write_bytes(content[: kept if kept == int(kept) else int(len(content) * kept)])
    with pytest.raises(WeightsError, match=r'cut\.safetensors is not a complete safetensors file'):
        load_model(path)


def test_an_image_is_no_weights_file(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(b'\xff\xd8' * 99)
    with pytest.raises(WeightsError, match=r'a\.jpg is no weights file \(\.safetensors\)$'):
        read_card(tmp_path / 'a.jpg')


def test_a_file_of_somebody_else_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / 'foreign.safetensors'
    save_file({'x': torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match='lw_refinenet import'):
        read_card(path)


def test_missing_unknown_and_misshapen_tensors_are_named(tiny_weights, tmp_path):
    def damage(tensors, header):
        tensors['surplus'] = tensors.pop('decoder.classifier.bias')
        tensors['decoder.classifier.weight'] = torch.zeros(4, 8, 3, 3, dtype=torch.float16)

    path = rewritten(tiny_weights, tmp_path / 'damaged.safetensors', damage)
    with pytest.raises(WeightsError) as caught:
        load_model(path)
    for part in (
        'missing: decoder.classifier.bias',
        'surplus: surplus',
        '(4, 8, 3, 3) instead of (3, 8, 3, 3)',
    ):
        assert part in str(caught.value)


def test_values_that_are_not_finite_are_refused(tiny_weights, tmp_path):
    def damage(tensors, header):
        tensors['decoder.classifier.bias'][0] = float('nan')

    with pytest.raises(WeightsError, match='not finite'):
        load_model(rewritten(tiny_weights, tmp_path / 'nan.safetensors', damage))


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ({'architecture': 'unet'}, "unknown architecture 'unet'"),
        ({'std': [0, 1, 1]}, 'std, of type list, must be three finite numbers above 0'),
        ({'std': [1e-300, 1, 1]}, 'std, of type list, must be three'),
        ({'mean': '123'}, 'mean, of type str, must be three'),
        ({'temperature': 0}, 'temperature=0 must be from'),
        ({'temperature': 1e-300}, 'temperature=1e-300 must be from'),
        ({'temperature': True}, 'temperature=True must be from'),
        ({'labels': {'classes': []}}, 'classes, a list of 1 to 255 of'),
        (
            {'labels': {'name': 'two', 'classes': [{'name': 'sky', 'color': [1, 2, 3]}] * 2}},
            "odd.safetensors: .*label set 'two' names 'sky' more than once",
        ),
        ({'labels': {'classes': {'sky': 1}}}, 'classes, a list of 1 to 255 of'),
        ({'width': 64.5}, 'width=64.5 must be an integer'),
        ({'source': ['x'] * 10_000}, 'source, of type list, must be text'),
        ({'dials': {'least_size': [100_000, 100_000]}}, 'at most the 33554432 pixels'),
        ({'dials': {'least_size': ['480', '640']}}, 'least_size, of type list, must be an integer or a list'),
        ({'dials': {'least_size': [-1, 640]}}, 'least_size=.-1, 640. must be'),
        ({'dials': {'levels': {}}}, 'levels, of type dict, must be an integer'),
        ({'metrics': {'miou': 'good'}}, 'metrics miou, of type str, must be from 0 to 1'),
        ({'metrics': {'miou': 77.3}}, 'metrics miou=77.3 must be from 0 to 1'),
        ({'metrics': {'per_class_iou': {'sky': []}}}, 'per_class_iou sky, of type list'),
        ({'metrics': []}, 'metrics, of type list, must be a mapping'),
        ({'quantization': {'activations': 3}}, 'activations=3 must be a list'),
        ({'quantization': {'activations': [3]}}, 'an int8 range must be a mapping'),
        ({'quantization': {'weights': [3]}}, 'weights, of type list, must be a list of text'),
        ({'quantization': {'accuracy': {'agreement': 99}}}, 'agreement=99 must be from 0 to 1'),
        ({'quantization': {'accuracy': {'miou': []}}}, 'miou, of type list, must be from 0 to 1'),
        ({'labels': 3}, 'cannot be used'),
        ({'width': -1}, 'width=-1'),
        ({'surprise': 1}, 'surprise'),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(tiny_weights, tmp_path, change, said):
    path = rewritten(tiny_weights, tmp_path / 'odd.safetensors', lambda _, header: header.update(change))
    with pytest.raises(WeightsError, match=said):
        load_model(path)


def test_a_negative_variance_is_refused_and_entries_that_nobody_knows_are_not(tiny_weights, tmp_path):
    def damage(tensors, header):
        name = next(name for name in tensors if name.endswith('running_var'))
        tensors[name][0] = -0.5

    with pytest.raises(WeightsError, match='running_var has negative variances'):
        load_model(rewritten(tiny_weights, tmp_path / 'negative.safetensors', damage))
    new = {'metrics': {'miou': None, 'of': 'val'}, 'quantization': {'accuracy': {'agreement': 1, 'on': 'x'}}}
    path = rewritten(tiny_weights, tmp_path / 'new.safetensors', lambda _, header: header.update(new))
    assert load_model(path)[1].metrics == new['metrics']


def test_shipped_weights_are_read_by_their_name_and_others_by_their_path():
    path = share_path('weights/camvid.safetensors')
    assert read_card('camvid') == read_card(path) == read_card(str(path))
    with pytest.raises(WeightsError, match="unknown weights 'camvit': did you mean 'camvid'"):
        read_card('camvit')
    with pytest.raises(WeightsError, match="unknown weights 'camvit'"):
        load_model('camvit')


def test_the_card_counts_its_classes(tiny_weights):
    card = read_card(tiny_weights)
    assert card.num_classes == 3
    assert replace(card, width=9) != card


def test_the_same_seed_writes_the_same_file(tmp_path):
    one = write_tiny_weights(tmp_path / 'one.safetensors', seed=5)
    two = write_tiny_weights(tmp_path / 'two.safetensors', seed=5)
    assert one.read_bytes() == two.read_bytes()
