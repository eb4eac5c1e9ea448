# SPDX-License-Identifier: Apache-2.0
"""Training on what strangers bring: odd data, small disks, little memory, kills, two runs in one folder."""

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.files import lock_folder
from lw_refinenet_ros.image.label_png import write_label_png
from lw_refinenet_ros.labels import LabelSet
from lw_refinenet_ros.model.network import build_model
from lw_refinenet_ros.model.weights import Card, load_model, read_card
from lw_refinenet_ros.training import dataset, train
from lw_refinenet_ros.training.config import TrainingConfig
from lw_refinenet_ros.training.dataset import DataError, LoadedPairs, find_pairs, read_pair
from lw_refinenet_ros.training.pace import Pace, shown_duration
from lw_refinenet_ros.training.train import Trainer
from lw_refinenet_ros.training.traps import find_traps, only_class
from test.support import ROOT

CONFIG = TrainingConfig(
    width=8, epochs=2, batch_size=2, crop_height=32, crop_width=64, validate_every=1, warmup_epochs=0
)
ONLY_0_AND_255 = (
    "the masks hold only 0 ('c0') and 255, which is unlabelled and ignored in training; "
    "if it was meant to be 'c1', its id is 1"
)
MOSTLY_UNLABELLED = (
    '55% of the pixels are 255, unlabelled, and the network will call each of them one of its '
    'classes: if they are background, give them a class (label --background NAME)'
)
OPTIONS = ('--batch-size', '2', '--crop-height', '32', '--crop-width', '64', '--epochs', '1')


def make_data(folder: Path, masks: list[np.ndarray], classes: int = 2) -> Path:
    """A folder of random images with these masks; the classes are c0, c1, ..."""
    (folder / 'images').mkdir(parents=True)
    (folder / 'labels').mkdir()
    listed = [{'name': f'c{i}', 'color': [i, 0, 0]} for i in range(classes)]
    (folder / 'classes.yaml').write_text(json.dumps({'name': 'some', 'classes': listed}))
    random = np.random.default_rng(0)
    for index, mask in enumerate(masks):
        image = random.integers(0, 255, (*mask.shape, 3), np.uint8)
        cv2.imwrite(str(folder / 'images' / f'{index}.png'), image)
        write_label_png(folder / 'labels' / f'{index}.png', mask)
    return folder


def mask_of(*ids: int) -> np.ndarray:
    """A mask, 40x64, of one stripe for each id."""
    return np.repeat(np.array(ids, np.uint8), -(-64 // len(ids)))[:64][None].repeat(40, 0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_data(tmp_path / 'data', [mask_of(0, 1), mask_of(1, 0, 255)])


def trainer(
    data: Path,
    run: Path,
    config: TrainingConfig = CONFIG,
    card: dict[str, object] | None = None,
    **options: object,
) -> Trainer:
    torch.manual_seed(0)
    pairs = find_pairs(data)
    model = build_model(config.architecture, len(pairs.labels.names), width=config.width)
    made = Card(config.architecture, config.width, pairs.labels, (0.5,) * 3, (0.25,) * 3)
    return Trainer(
        model, replace(made, **(card or {})), pairs, config, run, **{'report': lambda line: None, **options}
    )


@pytest.mark.parametrize(
    ('masks', 'classes', 'expected'),
    [
        ([mask_of(0, 1)], 2, []),
        ([mask_of(0), mask_of(1)], 2, []),
        (
            [mask_of(0, 255)],
            2,
            [
                ONLY_0_AND_255,
                'no mask contains c1: the network cannot learn it',
            ],
        ),
        (
            [mask_of(0, 1, 255, 255, 255), mask_of(0, 255)],
            2,
            [MOSTLY_UNLABELLED],
        ),
        ([mask_of(0, 2)], 4, ['no mask contains c1, c3: the network cannot learn them']),
        (
            [mask_of(0, 255)],
            1,
            ["'c0' is the only class, so every pixel will get it; add one for everything else"],
        ),
    ],
)
def test_traps_in_masks_are_described(masks, classes, expected, tmp_path):
    assert find_traps(find_pairs(make_data(tmp_path / 'data', masks, classes))) == expected


def test_images_of_12_bits_in_16_are_called_dark(data):
    assert find_traps(find_pairs(data)) == []
    for image in (data / 'images').iterdir():
        cv2.imwrite(str(image), np.full((40, 64), 4000, np.uint16))
    assert 'no image has a value above 15 of 255' in find_traps(find_pairs(data))[0]


def test_masks_without_any_class_are_refused(tmp_path):
    with pytest.raises(DataError, match=r'every pixel .* is 255, unlabelled: nothing to learn'):
        find_pairs(make_data(tmp_path / 'data', [mask_of(255)]))


def test_masks_with_a_capital_suffix_are_found_and_two_of_one_image_are_refused(data):
    mask = data / 'labels' / '0.png'
    mask.rename(mask.with_suffix('.PNG'))
    assert [path.name for path in find_pairs(data).masks] == ['0.PNG', '1.png']
    write_label_png(mask, mask_of(0, 1))
    with pytest.raises(DataError, match=r'\n  0\.PNG and 0\.png are masks of one image: move'):
        find_pairs(data)


def test_a_name_is_the_same_in_whichever_form_its_umlauts_are_stored(data):
    image, mask = (unicodedata.normalize(form, 'Straße_für') for form in ('NFD', 'NFC'))
    assert image != mask
    (data / 'images' / '0.png').rename(data / 'images' / f'{image}.png')
    (data / 'labels' / '0.png').rename(data / 'labels' / f'{mask}.png')
    assert [path.stem for path in find_pairs(data).masks] == ['1', mask]


def test_of_many_faults_the_first_are_listed_with_how_many_more(tmp_path):
    data = make_data(tmp_path / 'data', [mask_of(0, 1)] * 30)
    for index in range(25):
        (data / 'labels' / f'{index}.png').unlink()
    with pytest.raises(DataError, match='25 of 30 pairs') as caught:
        find_pairs(data)
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + 20 + 1
    assert lines[20].startswith('  19.png: no mask')
    assert lines[20].endswith(' (and 5 more)')
    assert lines[21] == '  move images without a mask to a folder of their own, for --unlabelled'


def test_two_images_of_one_mask_are_refused(data):
    cv2.imwrite(str(data / 'images' / '1.jpg'), np.zeros((40, 64), np.uint8))
    with pytest.raises(DataError, match=r'1 of 3 pairs .*\n  1\.jpg and 1\.png have one mask: move'):
        find_pairs(data)


def test_a_palette_in_another_order_than_the_classes_is_refused(tmp_path):
    data = make_data(tmp_path / 'data', [mask_of(0, 1, 2, 255)] * 2, 3)
    labels = LabelSet.from_yaml(data / 'classes.yaml')
    write_label_png(data / 'labels' / '0.png', mask_of(0, 1, 2, 255), labels)
    ramp = Image.fromarray(mask_of(0, 1, 2, 255)).convert('P')
    ramp.save(data / 'labels' / '1.png')
    assert len(find_pairs(data)) == 2, 'a palette of greys, which has the black of class 0, says nothing'
    colors = Image.fromarray(labels.palette[mask_of(2, 1, 0)])
    colors.quantize(3).save(data / 'labels' / '1.png')
    with pytest.raises(DataError) as caught:
        find_pairs(data)
    assert re.search(
        r"1 of 2 .*\n  1\.png: id \d \('c\d'\) has the colour of 'c\d' in the pal", str(caught.value)
    )


def test_masks_of_colours_are_refused_in_words(data):
    cv2.imwrite(str(data / 'labels' / '0.png'), np.zeros((40, 64, 3), np.uint8))
    with pytest.raises(DataError, match=r'0\.png: .*save class ids, not RGB colours'):
        find_pairs(data)


def test_a_network_that_recognizes_one_class_is_named(data, tmp_path):
    assert only_class({'road': 0.4, 'car': 0.0, 'sky': None}) == 'road'
    assert only_class({'road': 0.4, 'car': 0.1}) is None
    assert only_class({'road': 1.0, 'car': None}) is None
    lines: list[str] = []
    scores = {'miou': 0.2, 'per_class_iou': {'c0': 0.4, 'c1': 0.0}}
    trainer(
        data, tmp_path / 'run', replace(CONFIG, epochs=1), validate=lambda _: scores, report=lines.append
    ).train()
    assert any('warning: the network predicts nothing but c0' in line for line in lines)


def test_folders_that_are_not_there_are_called_that(tmp_path, data, capsys):
    assert main(['train', '--data', str(tmp_path / 'nope'), '--output', str(tmp_path / 'run')]) == 1
    assert f'{tmp_path}/nope does not exist' in capsys.readouterr().err
    (data / 'classes.yaml').write_text('classes: []')
    with pytest.raises(DataError) as caught:
        find_pairs(data)
    assert str(caught.value).count('classes.yaml') == 1
    with pytest.raises(DataError, match=r'has no images/ folder$'):
        find_pairs(data / 'labels')
    with pytest.raises(DataError, match=f'has no images/ folder: name one that has, such as {data}$'):
        find_pairs(data.parent)


def test_grey_and_16_bit_images_are_read_and_truncated_ones_are_not(data):
    deep = np.full((40, 64), 200 << 8, np.uint16)
    cv2.imwrite(str(data / 'images' / '0.png'), deep)
    cv2.imwrite(str(data / 'images' / '1.png'), (deep >> 8).astype(np.uint8))
    for image, mask in zip(find_pairs(data).images, find_pairs(data).masks):
        assert (read_pair(image, mask)[0] == 200).all()
        assert read_pair(image, mask)[0].shape == (40, 64, 3)
    jpeg = cv2.imencode('.jpg', np.full((40, 64, 3), 90, np.uint8))[1].tobytes()
    (data / 'images' / '0.png').unlink()
    (data / 'images' / '0.jpg').write_bytes(jpeg[: len(jpeg) // 2])
    (data / 'images' / '._0.jpg').write_bytes(b'AppleDouble')
    with pytest.raises(DataError, match=r'1 of 2 pairs .*\n  .*images/0\.jpg: .*truncated'):
        find_pairs(data)


def test_images_beyond_the_limit_of_memory_are_read_each_time(data):
    pairs = find_pairs(data)
    loaded = LoadedPairs(pairs, most_bytes=40 * 64 * 4)
    assert loaded[0][0] is loaded[0][0]
    assert loaded[1][0] is not loaded[1][0]
    np.testing.assert_array_equal(loaded[1][0], read_pair(pairs.images[1], pairs.masks[1])[0])


def test_a_pair_that_several_threads_decode_at_once_is_kept_once(data, monkeypatch):
    pairs, together = find_pairs(data), threading.Barrier(2)

    def read_together(image, mask):
        together.wait(10)
        return read_pair(image, mask)

    monkeypatch.setattr(dataset, 'read_pair', read_together)
    loaded = LoadedPairs(pairs, most_bytes=2 * 40 * 64 * 4)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(loaded.__getitem__, [0, 0]))
        list(pool.map(loaded.__getitem__, [1, 1]))
    assert loaded[1][0] is loaded[1][0], 'there is room for both'


@pytest.mark.parametrize(('images', 'classes'), [(3, 200), (1, 1)])
def test_few_images_and_many_classes_or_one_train(images, classes, tmp_path):
    masks = [mask_of(0, classes - 1, 255)] * images
    data = make_data(tmp_path / 'data', masks, classes)
    trainer(data, tmp_path / 'run', replace(CONFIG, epochs=1, batch_size=8)).train()
    assert read_card(tmp_path / 'run' / 'last.safetensors').num_classes == classes


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'batch_size': 0}, 'batch_size=0 must be at least 1'),
        ({'jitter': 1.5}, 'jitter=1.5 must be from 0 to 1'),
        ({'decoder_rate': float('nan')}, 'decoder_rate=nan must be at least 0'),
        ({'min_scale': 3.0}, 'min_scale=3.0 must be at most max_scale=2.0'),
        ({'hard_fraction': 0.0}, 'hard_fraction=0.0 must be from 0.001 to 1'),
        ({'class_weight_offset': 1.0}, 'class_weight_offset=1.0 must be 0 or above 1'),
        ({'least_height': 480}, 'least_height=480 and least_width=0: give both, or neither'),
        ({'architecture': 'unet'}, "'unet' must be one of lw_refinenet_resnet50"),
        ({'batch_size': 1, 'crop_width': 32}, 'one crop of 32x32 is too small for batch normalization'),
    ],
)
def test_options_that_cannot_train_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        replace(CONFIG, **changes)


def test_the_smallest_batch_that_is_allowed_trains(data, tmp_path):
    trainer(data, tmp_path / 'run', replace(CONFIG, epochs=1, batch_size=1, crop_width=33)).train()


def test_every_option_has_words(capsys):
    with pytest.raises(SystemExit):
        main(['train', '--help'])
    helped = ''.join(capsys.readouterr().out.split())
    for option in fields(TrainingConfig):
        assert ''.join(option.metadata['help'].split()) in helped, option.name


def test_a_value_out_of_range_is_wrong_usage(data, tmp_path, capsys):
    command = ['train', '--data', str(data), '--output', str(tmp_path / 'run'), '--epochs', '0']
    with pytest.raises(SystemExit, match='2'):
        main(command)
    assert "--epochs: '0' is not an integer from 1 on" in capsys.readouterr().err


def test_two_runs_in_one_folder_are_refused(data, tmp_path, tiny_weights, capsys):
    run = tmp_path / 'run'
    run.mkdir()
    command = ['train', '--data', str(data), '--init', str(tiny_weights), '--output', str(run), *OPTIONS]
    with lock_folder(run):
        assert main(command) == 1
    assert 'run is in use by another process' in capsys.readouterr().err
    assert list(run.iterdir()) == []


def test_the_weights_to_start_from_are_not_replaced(data, tmp_path, tiny_weights, capsys):
    run = tmp_path / 'run'
    run.mkdir()
    shutil.copy(tiny_weights, run / 'best.safetensors')
    command = ['train', '--data', str(data), '--output', str(run), *OPTIONS]
    assert main([*command, '--init', str(run / 'best.safetensors')]) == 1
    assert 'would replace the input' in capsys.readouterr().err
    assert (run / 'best.safetensors').read_bytes() == tiny_weights.read_bytes()


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a CUDA GPU')
def test_a_gpu_that_is_not_there_is_refused(data, tmp_path, capsys):
    command = ['train', '--data', str(data), '--output', str(tmp_path / 'run'), '--device', 'cuda']
    assert main(command) == 1
    assert 'finds no CUDA GPU' in capsys.readouterr().err
    assert not (tmp_path / 'run').exists()


# In a process of its own: the limit would be that of every file which this one writes.
FULL_DISK = """
import resource, sys
from dataclasses import replace
from pathlib import Path
from test.training.test_training_faults import CONFIG, trainer
data, run, limit = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
training = trainer(data, run, replace(CONFIG, epochs=1))
training.train()
names = sorted(path.name for path in run.iterdir())
weights = (run / 'last.safetensors').stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (limit or weights,) * 2)
try:
    training._save({}, best=False)
except OSError as error:
    print(error)
assert sorted(path.name for path in run.iterdir()) == names
"""


@pytest.mark.parametrize(('name', 'limit'), [('last', 1000), ('state', 0)])
def test_a_full_disk_is_named_and_what_was_saved_stays(data, tmp_path, name, limit):
    run = tmp_path / 'run'
    done = subprocess.run(
        [sys.executable, '-c', FULL_DISK, str(data), str(run), str(limit)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"too large: '{run}/{name}.safetensors'" in done.stdout
    assert load_model(run / 'last.safetensors')


def test_a_disk_that_is_nearly_full_is_named_before_training(data, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage._replace(free=1 << 20))
    with pytest.raises(ValueError, match=r'has 1 MiB free; the files of a run need \d+: free some space'):
        trainer(data, tmp_path / 'other').train()
    assert not (tmp_path / 'other').exists()


@pytest.mark.parametrize(
    'error',
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError('CUDA out of memory'),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_too_little_memory_is_named_with_the_remedy(data, tmp_path, error):
    run = trainer(data, tmp_path / 'run')

    def fails(*_: object) -> None:
        raise error

    run._step = fails
    with pytest.raises(
        ValueError, match=r'out of memory in epoch 1, with 2 crops of 64x32 a step: make batch_size'
    ):
        run.train()


def test_too_little_memory_in_the_validation_is_told_apart(data, tmp_path):
    def fails(_: object) -> None:
        raise MemoryError

    run = trainer(data, tmp_path / 'run', validate=fails)
    with pytest.raises(
        ValueError, match='out of memory in the validation after epoch 1: make the images of --val'
    ):
        run.train()


def test_int8_ranges_of_the_weights_before_are_not_kept(data, tmp_path):
    run = trainer(data, tmp_path / 'run', replace(CONFIG, epochs=1))
    run.card = replace(run.card, quantization={'activations': [], 'weights': []})
    run.train()
    assert read_card(tmp_path / 'run' / 'last.safetensors').quantization == {}


def test_a_loss_that_is_not_finite_ends_the_run(data, tmp_path):
    run = trainer(data, tmp_path / 'run')
    run._step = lambda *_: torch.tensor(float('nan'))
    with pytest.raises(ValueError, match='the loss is nan in epoch 1: lower the learning rates'):
        run.train()
    assert not (tmp_path / 'run').exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from test.training.test_training_faults import trainer

write_bytes = Path.write_bytes
def write(path, content):
    write_bytes(path, content[: len(content) // 2])
    if '.state.' in path.name and run.epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    write_bytes(path, content)

Path.write_bytes = write
run = trainer(Path(sys.argv[1]), Path(sys.argv[2]))
run.train()
"""


def test_a_kill_in_the_middle_of_writing_the_state_costs_one_epoch(data, tmp_path):
    run = tmp_path / 'run'
    command = [sys.executable, '-c', KILLED, data, run]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert any(path.suffix == '.tmp' for path in run.iterdir())
    resumed = trainer(data, run)
    assert resumed.epoch == 1
    resumed.train()
    assert [row['epoch'] for row in resumed.log] == [1, 2]
    assert not any(path.suffix == '.tmp' for path in run.iterdir())


@pytest.mark.parametrize(('interrupted', 'done'), [('_step', 3), ('_save', 4), ('_validate', 3)])
def test_an_interrupt_keeps_every_finished_epoch_and_the_run_ends_with_the_same_weights(
    data, tmp_path, monkeypatch, interrupted, done
):
    monkeypatch.setattr(train, 'SAVE_EVERY', 10**9)  # epochs too short to be saved
    config, lines = replace(CONFIG, epochs=6, validate_every=4), []
    trainer(data, tmp_path / 'whole', config).train()
    run = trainer(data, tmp_path / 'run', config, report=lines.append)
    calls_before = {'_step': 3 * run.steps_per_epoch, '_save': 1, '_validate': 3}[interrupted]
    usual, calls = getattr(run, interrupted), iter(range(calls_before + 1))

    def interrupt_once(*given, **named):
        result = usual(*given, **named)
        if next(calls, None) == calls_before:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(run, interrupted, interrupt_once)
    with pytest.raises(KeyboardInterrupt):
        run.train()
    assert lines[-1] == (
        f'the run in {tmp_path}/run was interrupted; it stands after epoch {done}: '
        'the same command resumes it there'
    )
    rows = (tmp_path / 'run' / 'log.csv').read_text().splitlines()[1:]
    assert [row.split(',')[0] for row in rows] == [str(1 + epoch) for epoch in range(done)]
    assert read_card(tmp_path / 'run' / 'last.safetensors').training['epochs_done'] == done
    resumed = trainer(data, tmp_path / 'run', config)
    assert resumed.epoch == done
    resumed.train()
    one, two = (load_model(tmp_path / each / 'last.safetensors')[0].state_dict() for each in ('whole', 'run'))
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name


def test_an_interrupt_in_the_first_epoch_leaves_nothing_and_says_so(data, tmp_path):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    lines: list[str] = []
    run = trainer(data, tmp_path / 'run', report=lines.append)
    run._step = interrupt
    with pytest.raises(KeyboardInterrupt):
        run.train()
    assert 'before the end of epoch 1: the same command starts it anew' in lines[-1]
    assert not (tmp_path / 'run').exists()


def test_a_request_to_end_keeps_every_epoch_that_the_command_printed(data, tmp_path, tiny_weights):
    command = [sys.executable, '-m', 'lw_refinenet_ros.cli.main', 'train', '--data', str(data), *OPTIONS]
    command += ['--init', str(tiny_weights), '--output', str(tmp_path / 'run'), '--epochs', '9999']
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = iter(process.stdout.readline, '')
        assert any(line.startswith('epoch 5/') for line in lines)
        process.terminate()
        *printed, last = lines
        assert process.wait() == 143
    epochs = [5, *(int(line.split()[1].split('/')[0]) for line in printed)]
    kept = int(re.search(r'it stands after epoch (\d+): the same command resumes it there', last)[1])
    assert epochs[-1] <= kept <= epochs[-1] + 1
    assert (tmp_path / 'run' / 'log.csv').read_text().splitlines()[-1].startswith(f'{kept},')


def test_a_run_with_other_data_or_a_damaged_state_is_not_resumed(data, tmp_path):
    run, once = tmp_path / 'run', replace(CONFIG, epochs=1)
    shorter = shutil.copytree(data, tmp_path / 'shorter')
    trainer(data, run, once).train()
    shutil.copy(data / 'images' / '0.png', data / 'images' / '2.png')
    shutil.copy(data / 'labels' / '0.png', data / 'labels' / '2.png')
    with pytest.raises(ValueError, match='holds a run with other images: choose another folder'):
        trainer(data, run, replace(CONFIG, epochs=1))
    for other in ({'training': {'init': 'other'}}, {'mean': (0.1,) * 3}, {'dials': {'crp_stages': 2}}):
        (name,) = other
        shown = {'training': 'init', 'mean': 'normalisation'}.get(name, name)
        with pytest.raises(ValueError, match=f'other {shown}: choose another folder'):
            trainer(shorter, run, once, card=other)
    with pytest.raises(ValueError, match='other val: choose another folder'):
        trainer(shorter, run, once, held_out=find_pairs(shorter))
    (run / 'state.safetensors').write_bytes(b'damaged')
    with pytest.raises(ValueError, match=r'state\.safetensors is not the state of a run: remove it'):
        trainer(data, run, replace(CONFIG, epochs=1))


def test_the_time_of_a_run_is_predicted_from_its_parts():
    now = 0.0
    pace = Pace(lambda: now)
    assert pace.left_s({'step': 9}) == 0
    for kind, seconds in (('step', 30), ('step', 2), ('validation', 100), ('step', 4)):
        with pace.measure(kind):
            now += seconds
    assert pace.left_s({'step': 100, 'validation': 2, 'save': 3}) == 100 * 3 + 2 * 100
    assert [shown_duration(s) for s in (8.4, 99, 150, 8000)] == ['8 s', '99 s', '2 min', '2.2 h']


def test_every_validation_that_is_to_come_counts(data, tmp_path):
    run = trainer(data, tmp_path / 'run', replace(CONFIG, epochs=10, validate_every=4), validate=lambda _: {})
    now = 0.0
    run.pace = Pace(lambda: now)
    assert run._left(0) == 'more than 0 s'
    for kind, seconds in (('step', 1), ('validation', 100)):
        with run.pace.measure(kind):
            now += seconds
    assert run._left(4) == shown_duration(6 + 2 * 100)
    assert run._left(8, 1) == shown_duration(1 + 100)
    assert run._left(0) == shown_duration(10 + 4 * 100), 'the first epoch is validated too'


def test_the_first_epoch_is_validated_and_a_resumed_run_keeps_its_clock(data, tmp_path):
    config = replace(CONFIG, epochs=3, validate_every=5)
    run = trainer(data, tmp_path / 'run', config, validate=lambda _: {'miou': 0.5})
    run.train()
    assert [row['miou'] for row in run.log] == [0.5, None, 0.5]
    resumed = trainer(data, tmp_path / 'run', config)
    resumed.log[-1]['seconds'], resumed.epoch = 1000, 2
    resumed.train()
    assert resumed.log[-1]['seconds'] >= 1000
