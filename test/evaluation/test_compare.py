# SPDX-License-Identifier: Apache-2.0
"""`lw_refinenet compare`: differences, their intervals and the frames behind them."""

import csv
import hashlib
import json
import re
import subprocess
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.evaluation.common_frames import CommonFrames
from lw_refinenet_ros.evaluation.compare import compare
from lw_refinenet_ros.evaluation.report.comparison import write_comparison_report
from lw_refinenet_ros.evaluation.report.pictures import BROKEN, MENDED, NO_TRUTH, WRONG_IN_BOTH, changes
from lw_refinenet_ros.evaluation.side_by_side import ChangedFrame
from lw_refinenet_ros.labels import LabelSet
from test.support.html import CHROMIUM, Checker
from test.support.recordings import pictures, record, stamps
from test.support.tiny_network import write_tiny_weights

CLASSES = ['sky', 'road', 'absent']


def evaluation(right, *, total=1000, classes=CLASSES, first=0):
    """Frames whose two classes have so many of their pixels in common."""
    rows = np.array([[share, share // 2, 0] for share in right])
    return {
        'classes': classes,
        'conditions': {'engine': 'a <b>'},
        'per_frame': {
            'name': [f'f{first + i}' for i in range(len(right))],
            'stamp_ns': [(first + i) * 10**9 for i in range(len(right))],
            'intersection': rows.tolist(),
            'union': [[total, total, 0]] * len(right),
        },
    }


def random_rights(seed, count=60, low=300, high=900):
    return np.random.default_rng(seed).integers(low, high, count)


def test_a_constant_gain_is_sure_and_exact_however_much_the_frames_differ():
    before = random_rights(1)
    found = compare(evaluation(before), evaluation(before + 20))
    sky, road, absent = found.classes
    assert sky.difference == pytest.approx(0.02)
    assert (sky.low, sky.high) == (pytest.approx(0.02), pytest.approx(0.02))
    assert (sky.verdict, road.verdict, absent.verdict) == ('better', 'better', 'unsure')
    assert absent.difference is None
    assert found.miou.difference == pytest.approx(0.015)
    swapped = compare(evaluation(before + 20), evaluation(before))
    assert (swapped.miou.verdict, swapped.miou.difference) == ('worse', -found.miou.difference)


def test_noise_alone_is_unsure_and_its_interval_has_the_width_of_the_standard_error():
    noise = np.random.default_rng(5).normal(0, 50, 400).round().astype(int)
    before = random_rights(2, 400)
    found = compare(evaluation(before), evaluation(before + noise - round(noise.mean())))
    sky = found.classes[0]
    assert sky.verdict == 'unsure'
    assert sky.low < 0 < sky.high
    assert sky.high - sky.low == pytest.approx(2 * 1.96 * 0.05 / np.sqrt(400), rel=0.15)


def test_the_same_files_give_the_same_interval_and_no_change_is_none():
    a, b = evaluation(random_rights(1)), evaluation(random_rights(2))
    assert compare(a, b) == compare(a, b)
    same = compare(a, a)
    assert (same.miou.difference, same.miou.low, same.miou.high) == (0, 0, 0)
    assert same.miou.verdict == 'unsure'


def test_blocks_of_frames_that_change_alike_make_the_interval_wider():
    before = random_rights(3, 100)
    gains = np.repeat(np.random.default_rng(4).normal(0, 50, 10).round().astype(int), 10)
    pair = evaluation(before), evaluation(before + gains)
    frames, blocks = compare(*pair).classes[0], compare(*pair, block_s=10).classes[0]
    assert blocks.difference == frames.difference
    assert blocks.high - blocks.low > 2 * (frames.high - frames.low)


def several(right, *, counts):
    """An evaluation of several bags, as it is written; their stamps overlap."""
    made = evaluation(right)
    names = [f'bag{bag}/{frame}' for bag, count in enumerate(counts) for frame in range(count)]
    stamps_ns = [frame * 10**9 for count in counts for frame in range(count)]
    bags = {f'bag{bag}': {'frames': count} for bag, count in enumerate(counts)}
    return {**made, 'bags': bags, 'per_frame': {**made['per_frame'], 'name': names, 'stamp_ns': stamps_ns}}


def test_fewer_than_ten_frames_or_blocks_give_no_interval_and_say_so():
    before = random_rights(1, 40)
    pair = evaluation(before), evaluation(before + 20)
    for count, block_s, reason in (
        (9, 0, 'too few frames for an interval: 9, and 10 are needed'),
        (40, 5, 'too few blocks of 5 s for an interval: 8, and 10 are needed'),
        (40, 100, 'too few blocks of 100 s for an interval: 1, and 10 are needed'),
    ):
        found = compare(evaluation(before[:count]), evaluation(before[:count] + 20), block_s=block_s)
        assert (found.miou.low, found.miou.high, found.miou.verdict) == (None, None, 'unsure')
        assert found.miou.difference == pytest.approx(0.015)
        assert f'({reason}), no significant change' in found.headline
        assert {change.verdict for change in found.classes} == {'unsure'}
    assert compare(*pair, block_s=4).miou.verdict == 'better'


def test_a_block_holds_frames_of_one_recording_only():
    counts = (4, 4, 4, 4, 4)
    right = random_rights(1, sum(counts))
    found = compare(several(right, counts=counts), several(right + 20, counts=counts), block_s=2)
    assert found.drawn == 10
    assert [frame.recording for frame in found.frames][3:5] == ['bag0', 'bag1']


def test_images_of_a_folder_have_no_blocks_and_are_counted_in_the_chart(tmp_path, capsys):
    folder = [{**evaluation([300, 400, 500]), 'consecutive': False} for _ in range(2)]
    with pytest.raises(ValueError, match='--block 2 is for recordings'):
        compare(*folder, block_s=2)
    with pytest.raises(ValueError, match='--block 2 is for recordings'):
        compare(evaluation([300, 400, 500]), folder[0], block_s=2)
    paths = [tmp_path / f'{name}.json' for name in 'ab']
    for path, content in zip(paths, folder):
        path.write_text(json.dumps(content))
    report = tmp_path / 'c.html'
    assert main(['compare', *map(str, paths), '--report', str(report)]) == 0
    assert re.search('before +after +points +95% interval', capsys.readouterr().out)
    texts = Checker(report.read_text()).texts
    assert 'frame' in texts
    assert 'time, s' not in texts


def test_the_frames_that_changed_most_are_named_and_those_of_one_only_too():
    before, after = [500] * 10, [500] * 10
    after[3], after[7] = 100, 800
    found = compare(evaluation(before), evaluation(after[1:], first=1))
    assert [frame.name for frame in found.most_changed(2)] == ['f3', 'f7']
    assert (found.only_before, found.only_after) == (['f0'], [])
    assert len(found.frames) == 9


def test_the_command_prints_saves_and_reports(tmp_path, capsys):
    before = random_rights(1)
    (tmp_path / 'a.json').write_text(json.dumps(evaluation(before)))
    (tmp_path / 'b.json').write_text(json.dumps(evaluation(before + 20)))
    files = [str(tmp_path / name) for name in ('a.json', 'b.json', 'c.json', 'c.html')]
    assert main(['compare', *files[:2], '--json', files[2], '--report', files[3]]) == 0
    said = capsys.readouterr().out
    assert 'mIoU +1.50 points (+1.50 to +1.50), better; 2 classes better' in said
    assert 'before: a <b>\nafter:  a <b>\n' in said
    saved = json.loads((tmp_path / 'c.json').read_text())
    assert saved['miou']['verdict'] == 'better'
    assert saved['per_class_iou']['sky']['interval'] == pytest.approx([0.02, 0.02])
    checker = Checker((tmp_path / 'c.html').read_text())
    assert 'a <b>' in checker.texts
    assert len(checker.all('rect', **{'class': 'bar'})) == len(before)


def test_a_file_that_is_not_there_is_named_with_the_remedy(tmp_path, capsys):
    (tmp_path / 'a.json').write_text(json.dumps(evaluation([500])))
    for other, what in (('camvid', 'camvid is not there'), (str(tmp_path), f'{tmp_path} is a folder')):
        assert main(['compare', str(tmp_path / 'a.json'), other]) == 1
        error = capsys.readouterr().err
        assert f'{what}: use a file written by evaluate --json; to compare weights give a --bag' in error
        assert error.count('\n') == 1


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        ('{"miou": 1}', "is not the --json of an evaluation: it has no 'per_frame'"),
        ('no json', 'is not the --json of an evaluation: JSONDecodeError'),
        (b'\0\0\0\x20ftypisom\x82', 'b.json is no text: use a file written by evaluate --json'),
        (json.dumps(evaluation([5], classes=['a', 'b', 'c'])), 'the classes differ'),
        (json.dumps(evaluation([5], first=99)), 'no frame is in both'),
        (json.dumps({**evaluation([5]), 'classes': ['sky']}), 'its per_frame lists differ in length'),
    ],
)
def test_what_cannot_be_compared_is_one_line(tmp_path, capsys, content, said):
    (tmp_path / 'a.json').write_text(json.dumps(evaluation([500])))
    (tmp_path / 'b.json').write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(['compare', str(tmp_path / 'a.json'), str(tmp_path / 'b.json')]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count('\n') == 1


def write_runs(folder, **runs):
    for name, right in runs.items():
        made = {**evaluation(right), 'latency_ms': {'p50': 12.5}}
        (folder / f'{name}.json').write_text(json.dumps(made))
    return [str(folder / f'{name}.json') for name in runs]


def test_any_number_of_runs_become_one_table_with_the_best_and_its_equals_marked(tmp_path, capsys):
    right = random_rights(1)
    noise = np.random.default_rng(5).integers(-60, 60, right.size)
    noise -= round(noise.mean())
    runs = write_runs(tmp_path, low=right - 40, best=right, equal=right + noise - 1)
    table, saved = tmp_path / 'runs.csv', tmp_path / 'runs.json'
    for _ in range(2):  # its own table is replaced
        assert main(['compare', *runs, '--csv', str(table), '--json', str(saved)]) == 0
    said = capsys.readouterr().out
    ranked = json.loads(saved.read_text())
    assert [run['name'] for run in ranked['runs']] == [runs[1], runs[2], runs[0]]
    assert [run['worse_than_best'] for run in ranked['runs']] == [False, False, True]
    assert re.search(r'1\. \S+best\.json .* 12\.5 ms  best\n', said)
    assert re.search(r'2\. \S+equal\.json .* no significant difference\n', said)
    assert re.search(r'3\. \S+low\.json .* -3\.00  -3\.00 to -3\.00 +12\.5 ms\n', said)
    rows = list(csv.DictReader(table.open()))
    assert [row['run'] for row in rows] == [run['name'] for run in ranked['runs']]
    assert float(rows[2]['difference_to_best']) == pytest.approx(-0.03)
    assert float(rows[0]['miou_low']) < float(rows[0]['miou']) < float(rows[0]['miou_high'])
    assert rows[0]['iou_absent'] == ''
    of_two = compare(*(json.loads((tmp_path / f'{name}.json').read_text()) for name in ('best', 'low'))).miou
    assert ranked['runs'][2]['difference_interval'] == [of_two.low, of_two.high]


def test_images_are_the_same_by_their_names_whatever_others_are_in_the_folder():
    whole = evaluation([500] * 12) | {'consecutive': False}
    part = evaluation([600] * 6) | {'consecutive': False}
    part['per_frame']['name'] = whole['per_frame']['name'][1::2]
    assert len(CommonFrames.of([whole, part], 0).keys) == 6


def test_blocks_of_less_than_a_nanosecond_are_single_frames():
    runs = [evaluation([500] * 12), evaluation([600] * 12)]
    assert CommonFrames.of(runs, 1e-10).blocks.shape[1] == 12


def test_two_runs_and_several_are_resampled_by_the_blocks_asked_for(tmp_path):
    right = random_rights(1, 100)
    runs = write_runs(tmp_path, a=right, b=right + random_rights(2, 100, -50, 60), c=right - 9)
    a, b, _ = (json.loads(Path(run).read_text()) for run in runs)
    wanted = compare(a, b, block_s=5).miou
    assert wanted.low != compare(a, b).miou.low
    saved = tmp_path / 'saved.json'
    assert main(['compare', *runs[:2], '--block', '5', '--json', str(saved)]) == 0
    assert json.loads(saved.read_text())['miou']['interval'] == [wanted.low, wanted.high]
    saved.unlink()
    assert main(['compare', *runs, '--block', '5', '--json', str(saved)]) == 0
    ranked = json.loads(saved.read_text())['runs']
    assert [run['name'] for run in ranked] == [runs[1], runs[0], runs[2]]
    assert ranked[1]['difference_interval'] == pytest.approx([-wanted.high, -wanted.low])


def test_frames_of_one_run_only_and_the_best_of_each_class_are_told(tmp_path, capsys):
    runs = write_runs(tmp_path, a=[500] * 9, b=[600] * 7, c=[700] * 8)
    assert main(['compare', *runs[:2]]) == 0
    said = capsys.readouterr().out
    assert f'only in {runs[0]}: 2 frames, f7, f8\n' in said
    assert f'only in {runs[1]}' not in said
    assert main(['compare', *runs]) == 0
    said = capsys.readouterr().out
    assert re.search(r'sky +70\.0%\* +60\.0% +50\.0% *\n', said), said


def test_masks_as_far_from_the_frames_as_was_allowed_are_compared(tmp_path, street, weights):
    when, truth = stamps(2), np.zeros(street.shape[:2], np.uint8)
    late = [(stamp_ns + 30_000_000, truth) for stamp_ns in when]
    frames = list(zip(when, pictures(street, 2)))
    bag = record(tmp_path / 'bag', {'/image': ('rgb8', frames), '/truth': ('mono8', late)})
    saved = tmp_path / 'saved.json'
    given = ['compare', *map(str, weights), '--bag', str(bag), '--labels', '/truth', '--json', str(saved)]
    assert main(given) == 1
    assert main([*given, '--tolerance', '0.04']) == 0
    assert json.loads(saved.read_text())['frames'] == 2


def test_runs_are_ranked_on_the_frames_that_all_have_and_two_may_have_a_csv_too(tmp_path, capsys):
    runs = write_runs(tmp_path, a=[500] * 9, b=[600] * 8, c=[700] * 7)
    assert main(['compare', *runs]) == 0
    assert '7 frames are in all runs; 2 that are not were left out' in capsys.readouterr().out
    assert main(['compare', *runs[:2], '--csv', str(tmp_path / 'two.csv')]) == 0
    assert 'mIoU +7.50 points' in capsys.readouterr().out
    assert len((tmp_path / 'two.csv').read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['a.json', 'b.json', 'a.json'], 'a run is named twice'),
        (['a.json', 'b.json', 'c.json', '--report', 'x.html'], '--report shows two runs, not 3'),
        (['a', 'b', 'c', '--labels', '/m', '--bag', 'x'], '--labels goes with two runs, not 3'),
        (['a.json', 'b.json', '--map', 'm.yaml'], 'two JSON files need neither'),
        (['a.json', 'b.json', '--class-groups', 'g.yaml'], 'two JSON files need neither'),
    ],
)
def test_runs_that_make_no_table_are_wrong_usage(capsys, arguments, said):
    assert main(['compare', *arguments]) == 2
    assert said in capsys.readouterr().err


FRAMES = 6


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp('two')
    return [write_tiny_weights(folder / f'{seed}.safetensors', seed=seed) for seed in (1, 2)]


@pytest.fixture
def bag(tmp_path, street, weights):
    """The first half of the frames is as the first network sees it, the rest as the second does."""
    images, when = pictures(street, FRAMES), stamps(FRAMES)
    segmenters = [Segmenter.load(str(file), engine='torch', precision='fp32', threads=1) for file in weights]
    truths = [segmenters[i >= FRAMES // 2].segment(image).label for i, image in enumerate(images)]
    topics = {'/image': ('rgb8', list(zip(when, images))), '/truth': ('mono8', list(zip(when, truths)))}
    return record(tmp_path / 'bag', topics)


def test_two_weights_on_a_bag_give_what_their_evaluations_give_and_pictures_of_what_changed(
    tmp_path, weights, bag, capsys
):
    engine = ['--engine', 'torch', '--precision', 'fp32', '--threads', '1']
    given = ['--bag', str(bag), '--labels', '/truth', *engine]
    jsons = [str(tmp_path / f'{name}.json') for name in ('a', 'b')]
    for file, path in zip(weights, jsons):
        assert main(['evaluate', *given, '--weights', str(file), '--json', path]) == 0
    assert main(['compare', *jsons, '--json', str(tmp_path / 'of_jsons.json')]) == 0
    report = tmp_path / 'changes.html'
    files = ['--json', str(tmp_path / 'of_weights.json'), '--report', str(report)]
    assert main(['compare', *map(str, weights), *given, *files]) == 0, capsys.readouterr().err
    found, of_jsons = (
        json.loads((tmp_path / f'{name}.json').read_text()) for name in ('of_weights', 'of_jsons')
    )
    sides = [(found.pop(when), of_jsons.pop(when)) for when in ('before', 'after')]
    assert found == of_jsons
    keys = ('weights', 'weights_sha256', 'architecture', 'engine', 'precision', 'device')
    for file, (ours, theirs) in zip(weights, sides):
        assert [ours['conditions'][key] for key in keys] == [theirs['conditions'][key] for key in keys]
        assert ours['conditions']['weights'] == ours['name'] == str(file)
        assert ours['conditions']['weights_sha256'] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert found['frames'] == FRAMES
    signs = {frame['name']: np.sign(frame['after'] - frame['before']) for frame in found['most_changed']}
    assert [signs[str(stamp_ns)] for stamp_ns in stamps(FRAMES)] == [-1] * 3 + [1] * 3
    checker = Checker(report.read_text('utf-8'))
    assert [figure['id'] for figure in checker.all('figure')] == [f'changed-{i + 1}' for i in range(FRAMES)]
    links = [link['href'].removeprefix('#') for link in checker.all('a')]
    assert links == [figure['id'] for figure in checker.all('figure')]
    assert len(checker.all('img')) == 5 * FRAMES
    said = ' '.join(checker.texts)
    first, second = (hashlib.sha256(file.read_bytes()).hexdigest()[:12] for file in weights)
    assert f'{first} → {second}' in checker.texts
    assert f'{weights[0]} (sha256 {first}), lw_refinenet_efficientnet_lite0' in said


@pytest.mark.parametrize(
    ('arguments', 'status', 'said'),
    [
        (['--bag', 'x.mcap'], 2, 'comparing two weights needs --bag or --images, and --labels'),
        (['--labels', '/truth'], 2, 'comparing two weights needs --bag or --images, and --labels'),
        (
            ['--images', '.', '--labels', '/truth'],
            1,
            '/truth does not exist; --images has no topics: name a folder',
        ),
        (['--images', '.', '--labels', __file__], 1, 'is not a folder of masks'),
        (['--bag', 'x', '--labels', '/truth', '--topic', '/truth'], 2, 'are both /truth'),
        (['--bag', 'none.mcap', '--labels', '/truth'], 1, 'none.mcap does not exist'),
    ],
)
def test_what_weights_cannot_be_compared_on_is_one_line(weights, capsys, arguments, status, said):
    assert main(['compare', *map(str, weights), *arguments]) == status
    (complaint,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('lw_refinenet:')]
    assert said in complaint


def test_weights_of_other_classes_are_refused_before_the_work(tmp_path, weights, bag, capsys):
    other = write_tiny_weights(tmp_path / 'x.safetensors', seed=1, names=('sky', 'road', 'tram'))
    status = main(['compare', str(weights[0]), str(other), '--bag', str(bag), '--labels', '/truth'])
    error = capsys.readouterr().err
    assert status == 1
    assert 'the classes differ and cannot be compared: sky, road, car; and sky, road, tram' in error
    assert 'evaluated' not in error


def test_what_one_bag_lacks_is_told_once_and_the_rest_compared(tmp_path, street, weights, capsys):
    images, when = pictures(street, FRAMES), stamps(FRAMES)
    truths = [np.zeros(image.shape[:2], np.uint8) for image in images]
    truths[2] = truths[2][:50]
    topics = {'/image': ('rgb8', list(zip(when, images))), '/truth': ('mono8', list(zip(when, truths)))}
    bag = record(tmp_path / 'bag', topics)
    for extra, status in (([], 1), (['--keep-going'], 0)):
        given = ['--bag', str(bag), '--labels', '/truth', *extra]
        assert main(['compare', *map(str, weights), *given, '--json', f'{tmp_path}/c.json']) == status
        error = capsys.readouterr().err
        assert error.count(f'mask of {when[2]}') == 1
        assert json.loads((tmp_path / 'c.json').read_text())['frames'] == FRAMES - 1


def test_where_no_frame_can_be_compared_the_reason_is_told(tmp_path, street, weights, capsys):
    images, when = pictures(street, 1), stamps(1)
    truths = [np.zeros((50, 50), np.uint8)]
    topics = {'/image': ('rgb8', list(zip(when, images))), '/truth': ('mono8', list(zip(when, truths)))}
    bag = record(tmp_path / 'bag', topics)
    assert main(['compare', *map(str, weights), '--bag', str(bag), '--labels', '/truth']) == 1
    assert f'no frame could be scored: mask of {when[0]} is 50x50 and its frame' in capsys.readouterr().err


LABELS = LabelSet('three', ('sky', 'road & <rail>', 'absent'), ((70, 130, 180), (128, 64, 128), (0, 0, 142)))


def changed_frames(count=3):
    """Four quarters: right in both, mended, broken, wrong in both; the first rows have no truth."""
    truth = np.zeros((40, 64), np.uint8)
    truth[:4] = 255
    before, after = np.zeros_like(truth), np.zeros_like(truth)
    before[:, 16:32] = before[:, 48:] = 1
    after[:, 32:] = 1
    image = np.full((40, 64, 3), 90, np.uint8)
    return [ChangedFrame(f'f{i}', 0.25, 0.5, image, truth, before, after) for i in range(count)]


def test_the_colours_of_what_changed_say_who_is_right():
    shown = changes(changed_frames()[0])
    for columns, color in ((slice(16, 32), MENDED), (slice(32, 48), BROKEN), (slice(48, 64), WRONG_IN_BOTH)):
        assert (shown[4:, columns] == color).all()
    assert (shown[4:, :16] == shown[4, 0]).all()
    assert tuple(shown[4, 0]) not in (MENDED, BROKEN, WRONG_IN_BOTH, NO_TRUTH)
    assert (shown[:4] == NO_TRUTH).all()


PROBE = """
<iframe width=390 height=800 src="report.html"></iframe>
<iframe width=1280 height=800 src="report.html"></iframe>
<script>
addEventListener('load', async () => {
  const seen = [];
  for (const frame of document.querySelectorAll('iframe')) {
    const page = frame.contentDocument, link = page.querySelector('a[href="#changed-1"]');
    const arrived = new Promise(done => frame.contentWindow.addEventListener('hashchange', done));
    link.click();
    await arrived;
    page.querySelector('.zoom').click();
    const opened = page.querySelector('dialog').open;
    page.querySelector('dialog img').click();
    seen.push({
      scrolls: page.documentElement.scrollWidth > frame.clientWidth,
      loaded: [...page.images].every(image => image.naturalWidth > 0),
      reached: frame.contentWindow.location.hash === '#changed-1',
      verdict: page.querySelector('.by-class td:last-child').getClientRects().length > 0,
      opened, closed: !page.querySelector('dialog').open,
    });
  }
  document.title = JSON.stringify(seen);
});
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason='no Chromium is installed')
def test_a_browser_leads_from_a_frame_to_its_pictures_on_a_phone_and_on_a_desk(tmp_path):
    before = random_rights(1, 12)
    found = compare(evaluation(before), evaluation(before + random_rights(2, 12, -100, 100)))
    conditions = ({'engine': 'a'}, {'engine': 'b <c>'})
    report = tmp_path / 'report.html'
    write_comparison_report(report, found, ('a', 'b'), conditions, changed_frames(), LABELS)
    text = report.read_text('utf-8')
    assert '//' not in re.sub(r'data:image/jpeg;base64,[\w+/=]+', '', text)
    assert 'road &amp; &lt;rail&gt;' in text
    (tmp_path / 'probe.html').write_text(PROBE, 'utf-8')
    command = [CHROMIUM, '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run']
    command += ['--disable-background-networking', '--disable-component-update', '--disable-sync']
    command += ['--enable-logging=stderr', f'--user-data-dir={tmp_path / "profile"}', '--dump-dom']
    command += ['--virtual-time-budget=10000', '--allow-file-access-from-files']
    command += [(tmp_path / 'probe.html').as_uri()]
    browser = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert 'CONSOLE' not in browser.stderr
    wanted = {'scrolls': False, 'loaded': True, 'reached': True, 'opened': True, 'closed': True}
    wanted['verdict'] = True
    assert json.loads(unescape(re.search('<title>(.*?)</title>', browser.stdout)[1])) == [wanted, wanted]
