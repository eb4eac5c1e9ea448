# SPDX-License-Identifier: Apache-2.0
"""Evaluations that are interrupted, of several bags, over processes and over a cluster: the same figures."""

import argparse
import importlib.util
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.cli.evaluate_recordings import _engine, names_of
from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.evaluation.checkpoint import Checkpoint
from lw_refinenet_ros.evaluation.processes import evaluate_in_processes
from lw_refinenet_ros.evaluation.recording import THREADS_DO_NOT_MATTER, Recording
from lw_refinenet_ros.evaluation.state_folder import NAME as STATE
from lw_refinenet_ros.files import lock_folder
from test.support.recordings import pictures, record, stamps

FRAMES = 6
TOPIC, TRUTH = '/front/image', '/front/truth'
KILLED = -9


@pytest.fixture(scope='module')
def truths():
    """Of any labels: what matters is that two runs say the same of them."""
    found = np.random.default_rng(5).integers(0, 3, (FRAMES, 96, 128)).astype(np.uint8)
    found[:, :10] = 255
    return list(found)


@pytest.fixture
def bag(tmp_path, street, truths):
    """A bag with a stamp that comes again, a mask with an unknown id and a frame without a mask."""
    when, images = stamps(FRAMES), pictures(street, FRAMES)
    masks = [(when[0], truths[0]), (when[1], np.full_like(truths[1], 77)), *zip(when[3:], truths[3:])]
    frames = [*zip(when[:3], images[:3]), (when[0], images[0]), *zip(when[3:], images[3:])]
    return record(tmp_path / 'drive', {TOPIC: ('rgb8', frames), TRUTH: ('mono8', masks)})


@pytest.fixture
def three_bags(tmp_path, street, truths):
    bags = []
    for index in range(3):
        when, images = stamps(2 + index), pictures(street[:, ::-1], 2 + index)
        topics = {TOPIC: ('rgb8', list(zip(when, images))), TRUTH: ('mono8', list(zip(when, truths[index:])))}
        bags.append(record(tmp_path / f'bag{index}', topics))
    return bags


@pytest.fixture
def arguments(tiny_weights, tmp_path):
    def give(bags, *more):
        engine = ['--weights', tiny_weights, '--engine', 'torch', '--precision', 'fp32', '--threads', 1]
        named = [each for bag in bags for each in ('--bag', bag)]
        given = ['evaluate', *named, '--topic', TOPIC, '--labels', TRUTH, '--json', tmp_path / 'a.json']
        return list(map(str, [*given, '--keep-going', *engine, *more]))

    return give


@pytest.fixture
def evaluate(arguments, tmp_path, capsys):
    """Run the command in this process; return its figures but for what the clock says, and what it said."""

    def run(bags, *more):
        status = main(arguments(bags, *more))
        said = capsys.readouterr().err
        assert status == 0, said
        figures = json.loads((tmp_path / 'a.json').read_text())
        return {k: v for k, v in figures.items() if k not in ('stages_ms', 'conditions')} | {
            'latency_ms': None,
            'bags': {name: {**of, 'latency_ms': None} for name, of in figures.get('bags', {}).items()},
        }, said

    return run


@pytest.fixture
def segmented(monkeypatch):
    """Count the frames that are segmented in this process."""
    calls = []
    segment = Segmenter.segment

    def counted(*args, **options):
        calls.append(1)
        return segment(*args, **options)

    monkeypatch.setattr(Segmenter, 'segment', counted)
    return calls


# Saves after every frame, and kills itself at the N-th call of a function.
KILL = """
import os, signal, sys
from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.cli.options import Progress
from lw_refinenet_ros.evaluation.checkpoint import Checkpoint
Checkpoint.due = True
place, name, left = {place}, {name!r}, {calls}
original = getattr(place, name)
def counted(*args, **options):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **options)
setattr(place, name, counted)
sys.exit(main(sys.argv[1:]))
"""


def killed(place, name, calls, arguments):
    """Run the command in a process that is killed; return when it and all its children are gone."""
    script = KILL.format(place=place, name=name, calls=calls)
    process = subprocess.run(
        [sys.executable, '-c', script, *arguments], capture_output=True, text=True, timeout=300
    )
    assert process.returncode == KILLED, process.stderr


@pytest.mark.parametrize(
    ('place', 'name', 'calls'),
    [('Checkpoint', 'save', 4), ('os', 'fsync', 17)],  # two for the marker, each part and each state
    ids=['between', 'while writing'],
)
def test_a_process_that_is_killed_goes_on_and_gives_the_figures_and_the_bag_of_one_that_is_not(
    place, name, calls, bag, tmp_path, arguments, evaluate, segmented
):
    (tmp_path / 'whole').mkdir()
    report = ['--report', tmp_path / 'a.html']
    whole, _ = evaluate([bag], '--output-bag', tmp_path / 'whole' / 'out.mcap', *report)
    assert len(segmented) == FRAMES
    more = [*report, '--output-bag', tmp_path / 'out.mcap', '--resume', tmp_path / 'kept']
    killed(place, name, calls, arguments([bag], *more))
    assert not (tmp_path / 'out.mcap').exists()
    segmented.clear()
    found, _ = evaluate([bag], *more)
    assert len(segmented) == FRAMES - 3
    assert found == whole
    assert (tmp_path / 'out.mcap').read_bytes() == (tmp_path / 'whole' / 'out.mcap').read_bytes()
    assert not (tmp_path / 'kept').exists(), 'what is not needed any more is left lying about'


@pytest.mark.parametrize('done', range(1, FRAMES + 1))
def test_wherever_it_stops_nothing_is_counted_twice_or_left_out(
    done, bag, evaluate, arguments, tmp_path, monkeypatch, capsys
):
    whole, _ = evaluate([bag])
    assert whole['problems']['count'] == 2
    monkeypatch.setattr(Checkpoint, 'due', True)
    save, calls = Checkpoint.save, []

    def stop(*args, **options):
        save(*args, **options)
        calls.append(1)
        if len(calls) == done:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, 'save', stop)
    assert main(arguments([bag], '--resume', tmp_path / 'kept')) == 130
    assert 'run the same command to resume' in capsys.readouterr().err
    assert evaluate([bag], '--resume', tmp_path / 'kept')[0] == whole


def test_a_state_of_something_else_is_refused_and_a_damaged_one_is_ignored_in_one_line(
    bag, tmp_path, arguments, monkeypatch, capsys
):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    kept = tmp_path / 'kept'
    monkeypatch.setattr(Checkpoint, 'due', True)
    with monkeypatch.context() as patched:
        patched.setattr('lw_refinenet_ros.evaluation.recording.segment_with', lambda *_, **__: interrupt)
        assert main(arguments([bag], '--resume', kept)) == 130
    assert not kept.exists()
    save = Checkpoint.save
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, 'save', lambda *a, **o: (save(*a, **o), interrupt()))
        assert main(arguments([bag], '--resume', kept)) == 130
    capsys.readouterr()
    assert main(arguments([bag], '--resume', kept, '--tolerance', '0.02')) == 1
    said = capsys.readouterr().err
    assert 'is of another evaluation: its source is ' in said
    assert 'remove it to start over' in said
    assert main(arguments([bag], '--resume', kept, '--network-width', 64)) == 1
    assert 'its network_size is None, now 64 wide' in capsys.readouterr().err
    with lock_folder(kept / STATE):
        assert main(arguments([bag], '--resume', kept)) == 1
    assert f'{kept / STATE} is in use by another process' in capsys.readouterr().err
    state = kept / STATE / 'drive.npz'
    for damaged in (state.read_bytes()[:1000], b'', b'PK\3\4' + bytes(99)):
        state.write_bytes(damaged)
        with monkeypatch.context() as patched:
            patched.setattr(Checkpoint, 'save', lambda *a, **o: (save(*a, **o), interrupt()))
            assert main(arguments([bag], '--resume', kept)) == 130
        said = capsys.readouterr().err
        assert 'drive.npz is not a checkpoint of an evaluation' in said
        assert 'it is ignored' in said
        assert 'Traceback' not in said


def test_what_else_is_in_the_folder_for_the_state_stays(bag, tmp_path, evaluate, monkeypatch):
    monkeypatch.setattr(Checkpoint, 'due', True)
    kept, other = tmp_path / 'kept', tmp_path / 'other'
    for folder in (kept / 'drive.parts', other):
        folder.mkdir(parents=True)
        (folder / '000000.mcap').write_text('mine')
    for name in ('results.npz', 'drive.npz', 'lock', '.drive.npz.x.tmp'):
        (kept / name).write_text('mine')
    (kept / 'link.parts').symlink_to(other)
    before = sorted(tmp_path.rglob('*'))
    evaluate([bag], '--resume', kept)
    after = [path for path in sorted(tmp_path.rglob('*')) if path.name != 'a.json']
    assert after == before
    assert all(path.read_text() == 'mine' for path in kept.iterdir() if path.is_file())
    evaluate([bag], '--resume', other)
    assert other.is_dir()


@pytest.mark.parametrize('name', ['', 'README.txt', 'drive.npz', 'drive.parts', 'drive.parts/000000.mcap'])
def test_a_link_in_place_of_the_state_is_refused_and_nothing_behind_it_is_touched(
    name, bag, tmp_path, arguments, monkeypatch, capsys
):
    def stop(*_, **__):
        raise KeyboardInterrupt

    kept, other, link = tmp_path / 'kept', tmp_path / 'other', tmp_path / 'kept' / STATE / name
    more = ['--resume', kept, '--output-bag', tmp_path / 'out.mcap']
    save = Checkpoint.save
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, 'due', True)
        patched.setattr(Checkpoint, 'save', lambda *a, **o: (save(*a, **o), stop()))
        assert main(arguments([bag], *more)) == 130
    link.rename(other)
    link.symlink_to(other)
    before = {path: path.read_bytes() for path in (other, *other.rglob('*')) if path.is_file()}
    capsys.readouterr()
    assert main(arguments([bag], *more)) == 1
    assert f'{link} is a link' in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (other, *other.rglob('*')) if path.is_file()} == before


def test_a_folder_that_is_called_like_the_state_but_was_made_by_somebody_else_is_refused(
    bag, tmp_path, arguments, capsys
):
    (tmp_path / 'kept' / STATE).mkdir(parents=True)
    (tmp_path / 'kept' / STATE / 'drive.npz').write_text('mine')
    assert main(arguments([bag], '--resume', tmp_path / 'kept')) == 1
    assert 'was not made by an evaluation' in capsys.readouterr().err
    assert (tmp_path / 'kept' / STATE / 'drive.npz').read_text() == 'mine'


def test_several_bags_give_their_sum_and_each_its_own_figures_in_any_number_of_processes(
    three_bags, evaluate, tmp_path
):
    alone = [evaluate([bag])[0] for bag in three_bags]
    together, _ = evaluate(three_bags, '--output-bag', tmp_path / 'one')
    matrices = [np.array(each['confusion_matrix']) for each in alone]
    assert together['confusion_matrix'] == np.sum(matrices, axis=0).tolist()
    assert together['frames'] == 2 + 3 + 4
    assert together['temporal']['pairs'] == 1 + 2 + 3
    assert together['per_frame']['name'][:3] == [
        f'bag{i}/{s}' for i, s in [(0, s) for s in stamps(2)] + [(1, stamps(1)[0])]
    ]
    for (name, figures), own in zip(together['bags'].items(), alone):
        assert figures == {key: own[key] for key in figures}, name
    assert list(together['bags']) == ['bag0', 'bag1', 'bag2']
    parallel, _ = evaluate(three_bags, '--jobs', 2, '--output-bag', tmp_path / 'two')
    assert parallel == together
    for name in ('bag0.mcap', 'bag1.mcap', 'bag2.mcap'):
        assert (tmp_path / 'one' / name).read_bytes() == (tmp_path / 'two' / name).read_bytes()


def test_when_the_command_is_killed_its_processes_end_too_and_it_goes_on_with_the_same_figures(
    three_bags, evaluate, arguments, tmp_path
):
    more = ['--jobs', 2, '--resume', tmp_path / 'kept']
    killed('Progress', 'show_of', 1, arguments(three_bags, *more))  # a pipe is open until the last is gone
    assert evaluate(three_bags, '--resume', tmp_path / 'kept')[0] == evaluate(three_bags)[0]


def test_a_checkpoint_depends_on_masks_of_any_spelling_and_on_ids_but_not_on_itself(tmp_path):
    from lw_refinenet_ros.evaluation.mask_map import MaskMap
    from lw_refinenet_ros.evaluation.recording import _key

    for name in ('images', 'labels'):
        (tmp_path / name).mkdir()
    (tmp_path / 'labels' / '1.PNG').write_bytes(b'a')

    def key(targets=(0, 1)):
        masks = MaskMap(targets, 'map.yaml', 'a, b')
        return _key(
            Recording(
                name='x', frames=tmp_path / 'images', topic=None, labels=tmp_path / 'labels',
                tolerance_ns=None,
                engine={}, worst=0, output=None, node='', state=None, versions='', masks=masks,
            ), '', '',
        )  # fmt: skip

    first = key()
    (tmp_path / 'images' / STATE).mkdir()
    assert key() == first, 'the state may lie beside the frames'
    assert key((1, 0)) != first, 'the classes of the masks were listed in another order'
    (tmp_path / 'labels' / '1.PNG').write_bytes(b'ab')
    assert key() != first


def test_every_bag_has_a_name_of_its_own():
    paths = [Path(name) for name in ('drive-2.mcap', 'drive.mcap', 'b/drive', 'c/drive', 'drive.db3')]
    assert names_of(paths) == ['drive-2', 'drive', 'drive-3', 'drive-4', 'drive-5']
    assert names_of([Path('a/drive'), Path('b/drive')]) == ['drive', 'drive-2']


@pytest.mark.parametrize(
    ('engine', 'device', 'at_once', 'given', 'threads'),
    [
        (THREADS_DO_NOT_MATTER[0], 'cpu', 2, {}, 4),
        (THREADS_DO_NOT_MATTER[0], 'cpu', 2, {'threads': 3}, 3),
        (THREADS_DO_NOT_MATTER[0], 'cpu', 9, {}, 1),
        (THREADS_DO_NOT_MATTER[0], 'cpu', 1, {}, None),
        (THREADS_DO_NOT_MATTER[0], 'cpu', 1, {'ray': 'auto'}, 1),
        ('another', 'cpu', 2, {}, 8),
        ('another', 'cuda', 2, {}, 4),
    ],
)
def test_processes_share_the_cores_where_that_changes_no_label_and_no_number_is_given(
    engine, device, at_once, given, threads, monkeypatch
):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(8)), raising=False)
    names = ('weights', 'device', 'engine', 'precision', 'threads', 'ray')
    options = argparse.Namespace(**dict.fromkeys(names) | given)
    segmenter = SimpleNamespace(engine=SimpleNamespace(name=engine, device=device))
    assert _engine(options, segmenter, at_once).get('threads') == threads


def test_a_process_that_dies_is_named_with_its_bag(three_bags, tiny_weights):
    engine = {'weights': str(tiny_weights), 'engine': 'torch', 'threads': 1}
    recordings = [
        Recording(bag.name, bag, TOPIC, TRUTH, 10**7, engine, 0, None, '/node', None, '')
        for bag in three_bags[:2]
    ]

    def kill(*_):
        for child in multiprocessing.active_children():
            child.kill()

    with pytest.raises(
        ValueError, match=r'the process that evaluated bag[01] died with status -9: with --resume'
    ):
        evaluate_in_processes(recordings, 2, kill)
    assert multiprocessing.active_children() == []


def test_a_bag_that_cannot_be_read_is_named_and_the_others_are_scored(three_bags, evaluate, tmp_path):
    good, _ = evaluate(three_bags[:2])
    damaged = tmp_path / 'damaged.mcap'
    damaged.write_bytes(b'no bag')
    found, said = evaluate([*three_bags[:2], damaged])
    assert 'damaged.mcap cannot be read as a bag' in said
    assert found['problems']['count'] == 1
    assert found['confusion_matrix'] == good['confusion_matrix']


def test_options_that_do_not_go_together_are_refused_before_the_work(three_bags, arguments, tmp_path, capsys):
    for more, complaint in (
        (['--output-bag', tmp_path / 'x.mcap'], 'with several bags, name a folder'),
        (['--rate', 2], '--rate is the speed of --live'),
        (['--live'], '--live plays a single --bag'),
    ):
        assert main(arguments(three_bags, *more)) == 2
        said = capsys.readouterr().err
        assert complaint in said
        assert 'evaluated' not in said
    assert main(arguments(three_bags, '--bag', three_bags[0])) == 1
    assert 'is given twice' in capsys.readouterr().err
    (tmp_path / 'masks' / 'bag0').mkdir(parents=True)
    assert main(arguments(three_bags, '--labels', tmp_path / 'masks')) == 1
    assert 'there is no folder' in capsys.readouterr().err


@pytest.mark.parametrize('engine', THREADS_DO_NOT_MATTER)
def test_the_labels_of_these_engines_do_not_depend_on_the_number_of_threads(engine, tiny_weights, street):
    pytest.importorskip(engine)
    image = np.tile(street, (3, 3, 1))
    one, many = (
        Segmenter.load(str(tiny_weights), engine=engine, threads=threads).segment(image, confidence=True)
        for threads in (1, 0)
    )
    assert np.array_equal(one.label, many.label)
    assert np.array_equal(one.confidence, many.confidence)


def test_labels_that_are_neither_a_folder_nor_a_topic_and_a_folder_that_cannot_be_made_are_named(
    three_bags, arguments, tmp_path, capsys
):
    assert main(arguments(three_bags, '--labels', 'masks')) == 1
    assert '--labels masks: there is no such folder, and a topic begins with /' in capsys.readouterr().err
    (tmp_path / 'results').write_text('')
    assert main(arguments(three_bags, '--output-bag', tmp_path / 'results')) == 1
    said = capsys.readouterr().err
    assert f'--output-bag {tmp_path / "results"}/bag0.mcap cannot be written' in said
    assert 'Not a directory' in said


def test_without_ray_one_line_says_what_to_install(three_bags, arguments, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    assert main(arguments(three_bags, '--ray', 'local')) == 1
    assert '--ray needs Ray, which is not installed here: pip install ray' in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec('ray') is None, reason='Ray is not installed')
def test_a_ray_cluster_gives_the_same_figures(three_bags, evaluate):
    address = 'auto' if 'RAY_ADDRESS' in os.environ else 'local'
    assert evaluate(three_bags, '--ray', address)[0] == evaluate(three_bags)[0]
