# SPDX-License-Identifier: Apache-2.0
"""Published checkpoints: read in every wrapping, refused where they do not fit or would run code."""

import io
import json
import os
import zipfile
import zlib
from functools import cache

import numpy as np
import pytest
import torch

from lw_refinenet_ros.cli import import_
from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.labels import LabelSet
from lw_refinenet_ros.model.upstream import PUBLISHED, network_from_upstream
from lw_refinenet_ros.model.weights import load_model
from lw_refinenet_ros.resources import share_path
from test.support import ROOT

pytestmark = pytest.mark.usefixtures('one_thread')

UPSTREAM = ROOT / 'test' / 'data' / 'upstream'
MOBILENET = 'lw_refinenet_mobilenet_v2'
TOLERANCE = 1e-4  # of the largest absolute logit


def value(key, shape):
    """Return the tensor that shared/upstream defines for a name."""
    x = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    if key.endswith('running_var'):
        return 1 + 0.1 * np.abs(x)
    if key.endswith('running_mean'):
        return 0.1 * x
    if len(shape) == 1:
        return 1 + 0.1 * x if key.endswith('weight') else 0.1 * x
    return x * np.sqrt(1 / np.prod(shape[1:]))


def checkpoint(architecture, num_classes=7):
    """A published state dict with the tensors of that rule, by upstream's names."""
    shapes = json.loads((UPSTREAM / f'{architecture}.json').read_text())['state_dict']
    tensors = {}
    for key, shape in shapes.items():
        if key.endswith('num_batches_tracked'):
            tensors[key] = torch.tensor(1)
            continue
        if key.startswith(('clf_conv', 'segm')):
            shape = [num_classes, *shape[1:]]
        tensors[key] = torch.from_numpy(value(key, tuple(shape)).astype(np.float32))
    return tensors


@cache
def mobilenet(num_classes=7):
    return checkpoint(MOBILENET, num_classes)


def published_logits(architecture):
    return np.load(UPSTREAM / f'{architecture}.npz')['logits']


def logits(network):
    image = np.random.RandomState(2018).standard_normal((1, 3, 97, 131)).astype(np.float32)
    with torch.inference_mode():
        return network(torch.from_numpy(image))[0].numpy()


def same(ours, theirs):
    return ours.shape == theirs.shape and np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max()


@pytest.mark.parametrize('architecture', PUBLISHED)
def test_the_architecture_is_found_and_the_logits_are_the_published_ones(architecture):
    found, network = network_from_upstream(checkpoint(architecture))
    assert found == architecture
    assert same(logits(network), published_logits(architecture))


@pytest.mark.parametrize(
    'wrap',
    [
        lambda tensors: tensors,
        lambda tensors: {'state_dict': tensors, 'epoch': 3},
        lambda tensors: {'model': {f'module.{key}': t for key, t in tensors.items()}, 'best_val': [0.5]},
        lambda tensors: {'segmenter': tensors, 'best_val': np.float64(0.7), 'epoch_start': np.int64(9)},
        lambda tensors: {key: t for key, t in tensors.items() if 'num_batches' not in key},
        lambda tensors: {'model_state_dict': {f'module._orig_mod.{key}': t for key, t in tensors.items()}},
        lambda tensors: {'state_dict': {f'net.{key}': t for key, t in tensors.items()}},
    ],
    ids=[
        'bare',
        'state_dict',
        'model, module.',
        'segmenter, NumPy scalars',
        'no counters',
        'compiled',
        'net.',
    ],
)
@pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'before PyTorch 1.6'])
def test_every_wrapping_becomes_one_file_that_gives_the_published_logits(wrap, zipped, tmp_path, capsys):
    source, target = tmp_path / 'mbv2.pth.tar', tmp_path / 'mbv2.safetensors'
    torch.save(wrap(mobilenet()), source, _use_new_zipfile_serialization=zipped)
    assert main(['import', str(source), '--output', str(target)]) == 0
    network, card = load_model(target)
    assert same(logits(network), published_logits(MOBILENET))
    assert (card.architecture, card.labels.name, card.num_classes) == (MOBILENET, 'person_part', 7)
    assert card.mean == [0.485, 0.456, 0.406]
    assert card.std == [0.229, 0.224, 0.225]
    assert 'mbv2.pth.tar' in card.source
    assert MOBILENET in capsys.readouterr().out


def refused(capsys, tmp_path, content, *arguments):
    """The one line that a checkpoint is refused with; nothing was written."""
    source, target = tmp_path / 'bad.ckpt', tmp_path / 'bad.safetensors'
    if isinstance(content, bytes):
        source.write_bytes(content)
    else:
        torch.save(content, source)
    assert main(['import', str(source), '--output', str(target), *arguments]) == 1
    assert list(tmp_path.iterdir()) == [source]
    line = capsys.readouterr().err
    assert line.count('\n') == 1
    return line


def test_tensors_that_do_not_fit_are_all_listed_by_upstreams_names(tmp_path, capsys):
    tensors = dict(mobilenet())
    del tensors['conv_adapt3.weight'], tensors['layer5.2.output.1.1.running_var']
    tensors['fc.weight'] = torch.zeros(2, 2)
    tensors['crp1.0.2_outvar_dimred.weight'] = torch.zeros(256, 128, 1, 1)
    line = refused(capsys, tmp_path, tensors)
    assert f'not those of {MOBILENET}' in line
    assert 'missing: layer5.2.output.1.1.running_var, conv_adapt3.weight;' in line
    assert 'surplus: fc.weight;' in line
    assert 'misshapen: crp1.0.2_outvar_dimred.weight (256, 128, 1, 1) instead of (256, 256, 1, 1)' in line


class Malicious:
    """A tensor, it says; unpickling it would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mknod, (str(self.path),)


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(tmp_path, capsys):
    trace = tmp_path / 'the code ran'
    line = refused(capsys, tmp_path, {**mobilenet(), 'epoch': Malicious(trace)})
    assert 'mknod' in line
    assert line.endswith('save the tensors alone: torch.save(model.state_dict(), FILE)\n')
    assert not trace.exists()
    torch.load(tmp_path / 'bad.ckpt', weights_only=False)
    assert trace.exists()  # the file was what it was meant to be


@pytest.mark.parametrize(
    ('content', 'says'),
    [
        ({'epoch': np.zeros(2)}, 'numpy'),  # of NumPy, scalars alone are allowed
        (b'', 'not a complete PyTorch checkpoint'),
        (b'\x80\x02garbage', 'refused'),
        ({'a': torch.zeros(1)}, 'no clf_conv.bias and no segm.bias'),
        ({'segmenter': 5}, 'no state dict of tensors'),
        ([torch.zeros(1)], 'no state dict of tensors'),
    ],
)
def test_what_is_no_checkpoint_is_refused_in_one_line(content, says, tmp_path, capsys):
    line = refused(capsys, tmp_path, content)
    assert says in line
    assert 'bad.ckpt' in line


@pytest.mark.filterwarnings('ignore::DeprecationWarning')  # of TorchScript itself
def test_a_torchscript_program_is_told_from_a_damaged_checkpoint(tmp_path, capsys):
    program = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Conv2d(3, 2, 1), torch.zeros(1, 3, 4, 4)), program)
    line = refused(capsys, tmp_path, program.getvalue())
    assert 'a TorchScript program, not a checkpoint; save the tensors alone: torch.save(model.sta' in line


def test_a_half_downloaded_checkpoint_is_refused(tmp_path, capsys):
    whole = tmp_path / 'whole.ckpt'
    torch.save(mobilenet(), whole)
    content = whole.read_bytes()
    whole.unlink()
    assert 'not a complete PyTorch checkpoint' in refused(capsys, tmp_path, content[: len(content) // 2])


def test_labels_of_another_number_of_classes_are_refused(tmp_path, capsys):
    assert 'voc has 21 classes, the checkpoint 7' in refused(capsys, tmp_path, mobilenet(), '--labels', 'voc')


def test_a_number_of_classes_that_no_shipped_set_has_needs_a_file(tmp_path, capsys):
    assert '--labels FILE.yaml' in refused(capsys, tmp_path, mobilenet(5))
    labels = tmp_path / 'five.yaml'
    five = ''.join(f'  - {{name: class {i}, color: [{i}, 0, 0]}}\n' for i in range(5))
    labels.write_text(f'name: five\nclasses:\n{five}')
    target = tmp_path / 'five.safetensors'
    command = ['import', str(tmp_path / 'bad.ckpt'), '--output', str(target), '--labels', str(labels)]
    assert main(command) == 0
    assert load_model(target)[1].labels.name == 'five'


def test_an_architecture_that_was_named_is_taken_at_its_word(tmp_path, capsys):
    line = refused(capsys, tmp_path, mobilenet(), '--architecture', 'lw_refinenet_resnet50')
    assert 'not those of lw_refinenet_resnet50: missing: conv1.weight' in line
    assert 'were published' in refused(capsys, tmp_path, mobilenet(), '--architecture', 'unet')


def voc_color(index):
    """VOC's colour of an index: its bits, dealt to red, green and blue, from the highest value bit down."""
    return tuple(sum((index >> (3 * bit + c) & 1) << (7 - bit) for bit in range(8)) for c in range(3))


@pytest.mark.parametrize(
    ('name', 'classes', 'first'),
    [('voc', 21, 0), ('person_part', 7, 0), ('context', 60, 0), ('nyu40', 40, 1)],
)
def test_label_sets_in_vocs_colours_follow_its_rule(name, classes, first):
    labels = LabelSet.from_yaml(share_path(f'config/labels/{name}.yaml'))
    assert labels.name == name
    assert labels.colors == tuple(voc_color(index) for index in range(first, first + classes))


def test_cityscapes_has_its_nineteen_classes():
    labels = LabelSet.from_yaml(share_path('config/labels/cityscapes.yaml'))
    assert (len(labels.names), labels.names[0], labels.names[-1]) == (19, 'road', 'bicycle')


def cyclic():
    checkpoint = {}
    checkpoint['state_dict'] = checkpoint
    return checkpoint


def of(tensor):
    return {'state_dict': dict(mobilenet()) | {'segm.weight': tensor}}


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        (cyclic, 'no state dict of tensors'),
        (lambda: of(torch.empty(7, 256, 3, 3, device='meta')), 'segm.weight is float32, strided, on meta'),
        (lambda: of(torch.eye(9).to_sparse()), 'segm.weight is float32, sparse_coo'),
        (lambda: of(torch.eye(9).to_sparse_csr()), 'segm.weight is float32, sparse_csr'),
        (lambda: of(torch.zeros(9, dtype=torch.complex64)), 'segm.weight is complex64'),
        (lambda: of(torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8)), ''),
        (lambda: of(torch.zeros(1).expand(1 << 20, 1 << 20)), 'segm.weight (1048576, 1048576)'),
        (lambda: {'x' * 10_000: torch.zeros(1, dtype=torch.complex64)}, 'xxx is complex64'),
        (lambda: b'e' * 99, 'not a'),
        (lambda: b'', 'not a complete PyTorch checkpoint'),
    ],
)
def test_tensors_of_another_kind_are_refused_in_one_short_line(tmp_path, capsys, content, said):
    line = refused(capsys, tmp_path, content())
    assert said in line
    assert len(line) < len(str(tmp_path)) + 300


def test_a_checkpoint_that_unpacks_to_too_much_or_is_no_file_is_refused(tmp_path, capsys, monkeypatch):
    bomb = tmp_path / 'bomb.pth'
    with zipfile.ZipFile(bomb, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/data.pkl', bytes(1 << 20))
    monkeypatch.setattr(import_, 'MAX_BYTES', 1 << 19)
    assert bomb.stat().st_size < 1 << 12
    pipe = tmp_path / 'pipe.pth'
    os.mkfifo(pipe)
    for path, said in (
        (bomb, 'more than the 524288'),
        (pipe, 'not a regular file'),
        (tmp_path / 'no', 'No such'),
    ):
        assert main(['import', str(path), '--output', str(tmp_path / 'x.safetensors')]) == 1
        assert said in capsys.readouterr().err
