# SPDX-License-Identifier: Apache-2.0
"""The report of an evaluation, read as HTML and looked at in a browser."""

import json
import re
import subprocess
from dataclasses import replace
from html import unescape

import numpy as np
import pytest

from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.evaluation.error_types import error_types
from lw_refinenet_ros.evaluation.evaluate import Prediction, evaluate, segment_with
from lw_refinenet_ros.evaluation.evaluation import merge
from lw_refinenet_ros.evaluation.examples import Example
from lw_refinenet_ros.evaluation.frame_facts import FrameFacts
from lw_refinenet_ros.evaluation.report.evaluation import write_evaluation_report
from lw_refinenet_ros.evaluation.report.frames import all_frames, slices
from lw_refinenet_ros.evaluation.report.pictures import NO_TRUTH, WRONG, difference
from lw_refinenet_ros.evaluation.summary import summarize
from lw_refinenet_ros.image.encodings import ColorImage
from lw_refinenet_ros.labels import LabelSet
from test.support.html import CHROMIUM, Checker
from test.support.recordings import START_NS, pictures

LABELS = LabelSet('three', ('sky', 'road & <rail>', 'car'), ((70, 130, 180), (128, 64, 128), (0, 0, 142)))


class Made:
    """Frames whose prediction is wrong in the first `index` columns."""

    description, length, consecutive = 'made', 12, True
    frames_alone, masks_alone = (), ()

    def __init__(self, street):
        self.images = pictures(street, self.length)

    def read(self, problem, start=0):
        problem('x.png: <b>damaged</b>')
        truth = np.zeros(self.images[0].shape[:2], np.uint8)
        truth[48:] = 1
        truth[:4] = 255
        for index, image in enumerate(self.images):
            stamp_ns = START_NS + index * 1_000_000_000
            yield Example(str(index), stamp_ns, 'front', ColorImage(image, 'rgb'), truth, 1.0, index)


def segment(example):
    label = np.where(example.truth == 255, 0, example.truth)
    label[:, : int(example.name)] = 2
    return Prediction(label, np.full_like(label, 200), 40.0 + int(example.name))


@pytest.fixture
def found(street):
    return evaluate(Made(street), segment, LABELS, worst=3)


def write(path, found):
    write_evaluation_report(path, found, summarize(found, {'engine': 'made <up>'}))
    return path.read_text('utf-8')


def test_the_report_holds_every_section_and_refers_to_nothing_outside(tmp_path, found):
    text = write(tmp_path / 'report.html', found)
    checker = Checker(text)
    said = ' '.join(checker.texts)
    for part in (
        'Classes',
        'Frame by frame',
        'Worst frames',
        'Confusion',
        'Confidence',
        'Latency',
        'Problems',
    ):
        assert part in checker.texts
    for part in ('made <up>', 'x.png: <b>damaged</b>', 'road & <rail>'):
        assert part in said
    assert '//' not in re.sub(r'data:image/jpeg;base64,[\w+/=]+', '', text)
    assert all(image['alt'] and image['src'].startswith('data:') for image in checker.all('img'))


def test_the_worst_frames_are_those_with_the_lowest_iou_and_their_marks_lead_to_them(tmp_path, found):
    assert [worst.score.name for worst in found.worst] == ['11', '10', '9']
    assert [worst.score.miou for worst in found.worst] == sorted(
        (frame.miou for frame in found.frames), reverse=False
    )[:3]
    checker = Checker(write(tmp_path / 'report.html', found))
    assert len(checker.all('img')) == 3 * 5
    targets = [link['href'].removeprefix('#') for link in checker.all('a')]
    assert targets == ['worst-1', 'worst-2', 'worst-3'] + 3 * ['timeline']
    targets = targets[:3]
    assert [figure['id'] for figure in checker.all('figure')] == targets


def test_of_frames_that_follow_each_other_the_worst_of_each_second_is_shown(street, monkeypatch):
    read = Made.read

    def close_by(self, problem, start=0):
        for example in read(self, problem, start):
            yield replace(example, stamp_ns=START_NS + example.index * 400_000_000)

    monkeypatch.setattr(Made, 'read', close_by)
    found = evaluate(Made(street), segment, LABELS, worst=3)
    assert [worst.score.name for worst in found.worst] == ['11', '9', '7']  # at 4.4, 3.6 and 2.8 s


def test_frames_are_listed_with_what_is_wrong_in_them_and_those_of_several_bags_together(found):
    listed = all_frames(merge({'first': found, 'second': found}))
    assert len(listed['names']) == len(listed['cells']) == len(listed['pictures']) == 2 * Made.length
    assert listed['cells'][3] == listed['cells'][3 + Made.length] == [1, 2, 144, 0, 2, 132]
    titles = [title for title, _, _ in listed['figures']]
    assert titles[:2] == ['suspected label error', 'mean IoU']
    of = {title: values for title, _, values in listed['figures']}
    assert of['IoU of car'][:2] == [None, 0]
    assert np.isnan(next(iter(found.facts)).change)
    assert of['mean confidence'][0] == pytest.approx(100 * 200 / 255, abs=0.01)
    assert [name for name, *_ in slices(found)] == ['blurred', 'sharp', 'slow', 'fast']


def test_every_cell_of_the_confusion_matrix_that_opens_has_frames(tmp_path, street, monkeypatch):
    labels = LabelSet('eight', tuple('abcdefgh'), tuple((32 * index, 0, 0) for index in range(8)))
    monkeypatch.setattr(Made, 'length', 1)

    def confuse(example):
        """Mistake each class for each other one, in the fewer pixels the later it comes."""
        example.truth[:] = np.arange(example.truth.shape[1]) % 8
        label = example.truth.copy()
        for number, row in enumerate(label):
            row[8 * (number % 12) :] = (row[8 * (number % 12) :] + number % 8) % 8
        return Prediction(label, np.full_like(label, 200), 40.0)

    found = evaluate(Made(street), confuse, labels, worst=1)
    kept = found.facts.cells[1::4], found.facts.cells[2::4]
    assert len(set(zip(*kept))) == 40  # of 56
    page = Checker(write(tmp_path / 'report.html', found))
    cells = [each['data-cell'] for each in page.all('button') if 'data-cell' in each]
    assert {tuple(map(int, cell.split())) for cell in cells} == set(zip(*kept))


def test_a_wrong_mask_is_suspected_where_the_network_is_sure_and_was_in_the_frame_before(street):
    truth = np.zeros(street.shape[:2], np.uint8)
    wrong = truth.copy()
    wrong[:48] = 1
    facts = FrameFacts()
    for mask, sure in ((truth, 250), (wrong, 250), (wrong, 100), (wrong, 250)):
        facts.update(street, truth, mask, np.full_like(truth, sure), consecutive=True)
    assert [look.suspicion for look in facts] == [0, 0.5, 0, 0]  # the last was not sure before


def test_pictures_of_every_second_frame_are_kept_once_there_are_too_many(street, monkeypatch):
    monkeypatch.setattr('lw_refinenet_ros.evaluation.frame_facts.MOST_PICTURES', 4)
    label, facts = np.zeros(street.shape[:2], np.uint8), FrameFacts()
    for _ in range(11):
        facts.update(street, label, label, None, consecutive=False)
    assert list(facts.pictures) == list(facts.errors) == ['0', '4', '8']
    again = FrameFacts()
    again.restore(facts.to_arrays())
    assert again.pictures == facts.pictures
    assert list(again.looks) == pytest.approx(list(facts.looks), nan_ok=True)


def test_each_wrong_pixel_has_one_type_of_error():
    truth = np.zeros((120, 160), np.uint8)
    truth[:, 80:] = 1
    truth[:, 20] = 2  # a pole
    truth[:5] = 255
    label = truth.copy()
    label[:, 20] = 0
    label[50:60, 20] = 1  # meets nothing of its class either
    label[60:, 79] = 1
    label[60:100, 120:150] = 0
    label[10:20, 40:50] = 2
    found = error_types(label, truth)
    assert found.known == 115 * 160
    assert (found.missed, found.boundary, found.inside, found.invented) == (115, 60, 0, 1300)
    label[60:100, 120:150] = 1
    label[60:100, 60:110] = 0  # joined with what is right
    found = error_types(label, truth)
    assert (found.missed, found.invented) == (115, 100)
    assert found.boundary + found.inside == 40 * 30 + 20
    assert (found.small, found.small_right) == (115, 0)
    assert found.large_right == found.large - 1320
    label[60:100, 60:110] = 255  # no class is no object
    assert error_types(label, truth).invented == 100


def test_an_object_of_less_than_a_hundredth_of_the_image_is_small_and_what_has_no_label_is_none():
    truth = np.zeros((100, 100), np.uint8)
    truth[0, 0] = 255
    truth[10:20, 10:20] = 1
    truth[50:59, 50:61] = 2
    found = error_types(truth, truth)
    assert (found.small, found.small_right) == (99, 99)
    assert (found.large, found.large_right) == (9900, 9900)


def test_figures_of_each_of_several_bags_and_what_they_were_made_with_are_at_the_top(tmp_path, found):
    whole = merge({'first': found, 'second': found})
    conditions = {'weights': 'camvid <w>', 'weights_sha256': '0123456789abcdef' * 4}
    conditions |= {'architecture': 'net', 'engine': 'CPU, bf16', 'commit': 'abc123'}
    summary = summarize(whole, conditions, parts={'first': found, 'second': found})
    write_evaluation_report(tmp_path / 'report.html', whole, summary)
    checker = Checker((tmp_path / 'report.html').read_text('utf-8'))
    assert 'camvid <w> (sha256 0123456789ab), net, CPU, bf16 · abc123' in checker.texts
    assert '0123456789ab' in checker.texts
    assert 'second' in checker.texts
    assert [worst.score.name for worst in whole.worst] == ['first/11', 'second/11', 'first/10']
    assert checker.texts.count('Recordings: 1 first, 2 second.') == 2  # under mIoU and latency
    assert len(checker.all('polyline')) == 4
    assert 'at 11.0 s' in checker.texts


def test_frames_where_all_is_right_are_not_among_the_worst(tmp_path, street):
    def segment_all_right(example):
        return segment(replace(example, name='0'))

    found = evaluate(Made(street), segment_all_right, LABELS, worst=3)
    assert 'Worst frames' not in Checker(write(tmp_path / 'report.html', found)).texts
    found = evaluate(Made(street), segment, LABELS, worst=20)
    checker = Checker(write(tmp_path / 'report.html', found))
    assert len(checker.all('figure')) == Made.length - 1
    assert '100%' not in ' '.join(text for text in checker.texts if 'lowest' in text)


def test_labels_alone_are_timed_of_the_first_ten_frames_and_every_tenth(street, tiny_weights, monkeypatch):
    monkeypatch.setattr(Made, 'length', 32)
    jobs = []
    segmenter = Segmenter.load(str(tiny_weights), engine='torch', threads=1)
    run = segmenter.engine.run

    def watched(job, *more):
        jobs.append(job.confidence)
        run(job, *more)

    monkeypatch.setattr(segmenter.engine, 'run', watched)
    found = evaluate(Made(street), segment_with(segmenter), LABELS)
    timed = [index for index, time_ms in enumerate(found.stages_ms['inference']) if time_ms == time_ms]
    assert timed == [*range(10), 10, 20, 30]
    assert (jobs.count(False), jobs.count(True)) == (len(timed), Made.length)
    assert len(found.stages_ms['inference_with_confidence']) == Made.length
    summary = summarize(found, {})
    assert 0 < summary['latency_ms']['p50'] <= summary['latency_ms']['p99']


def test_charts_of_a_folder_count_its_frames(tmp_path, street, monkeypatch):
    monkeypatch.setattr(Made, 'consecutive', False)
    texts = Checker(write(tmp_path / 'report.html', evaluate(Made(street), segment, LABELS))).texts
    assert texts.count('frame') == 2
    assert 'time, s' not in texts


def test_the_difference_is_red_where_the_prediction_is_wrong_and_grey_without_truth(found):
    shown = difference(found.worst[0])
    assert (shown[10:, :11] == WRONG).all()
    assert (shown[:4] == NO_TRUTH).all()
    assert not (shown[10:, 11:] == WRONG).all(-1).any()


PROBE = r"""
<iframe width=390 height=800 src="report.html"></iframe>
<iframe width=1280 height=800 src="report.html"></iframe>
<script>
addEventListener('load', async () => {
  const seen = [];
  for (const frame of document.querySelectorAll('iframe')) {
    const page = frame.contentDocument, link = page.querySelector('.plot a');
    const arrived = new Promise(done => frame.contentWindow.addEventListener('hashchange', done));
    link.dispatchEvent(new MouseEvent('click', {bubbles: true, view: frame.contentWindow}));
    await arrived;
    const top = page.querySelector('#worst-1').getBoundingClientRect().top;
    const reached = frame.contentWindow.location.hash === '#worst-1' && Math.abs(top) < 40;
    page.querySelector('.zoom').click();
    const opened = page.querySelector('dialog').open;
    page.querySelector('dialog img').click();
    const back = page.querySelector('#worst-1 a');
    const returned = new Promise(done => frame.contentWindow.addEventListener('hashchange', done));
    back.click();
    await returned;
    const timeline = Math.abs(page.querySelector('#timeline').getBoundingClientRect().top);
    const box = page.querySelector('.scroller'), hint = page.querySelector('.hint');
    const visible = () => getComputedStyle(hint).visibility === 'visible';
    const whole = box.scrollWidth <= box.clientWidth + 1 && !visible();
    const list = page.querySelector('#list'), by = page.querySelector('#by');
    const names = () => [...list.querySelectorAll('b')].map(name => name.textContent);
    const set = (id, value) => {
      const control = page.querySelector(id);
      control.value = value;
      control.dispatchEvent(new Event('input', {bubbles: true}));
    };
    const suspected = names()[0];
    set('#by', [...by.options].findIndex(option => option.text === 'mean IoU'));
    const lowest = names()[0];
    set('#order', '-1');
    set('#most', '64.1');
    const filtered = names().join(' ');
    const button = page.querySelector('.matrix button');
    button.focus();
    const focused = page.activeElement === button;
    button.click();
    const confused = names()[0] + ', ' + page.querySelector('#count').textContent;
    page.querySelector('#controls').reset();
    await new Promise(done => setTimeout(done, 100));
    const restored = names().length;
    await new Promise(done => setTimeout(done, 500));
    const drawn = [...list.querySelectorAll('canvas')].every(canvas => canvas.dataset.drawn);
    box.style.width = '100px';
    frame.contentWindow.dispatchEvent(new Event('resize'));
    const cut = visible();
    const [text, card] = ['color', 'backgroundColor'].map(name => {
      const [r, g, b] = getComputedStyle(page.querySelector('section'))[name].match(/\d+/g).map(Number);
      return 0.3 * r + 0.6 * g + 0.1 * b;
    });
    seen.push({
      suspected, lowest, filtered, focused, confused, restored, drawn,
      whole, cut, contrast: Math.abs(text - card) > 150, dark: card < 128,
      returned: timeline < 800,
      scrolls: page.documentElement.scrollWidth > frame.clientWidth,
      loaded: [...page.images].every(image => image.naturalWidth > 0),
      reached, opened, closed: !page.querySelector('dialog').open,
    });
  }
  document.title = JSON.stringify(seen);
});
</script>
"""


@pytest.mark.parametrize('scheme', ['dark', 'light'])
@pytest.mark.skipif(CHROMIUM is None, reason='no Chromium is installed')
def test_in_a_browser_a_mark_leads_to_its_frame_and_back_on_a_phone_and_on_a_desk(tmp_path, found, scheme):
    probe = tmp_path / 'probe.html'
    write(tmp_path / 'report.html', found)
    probe.write_text(PROBE, 'utf-8')
    command = [CHROMIUM, '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run']
    command += ['--disable-background-networking', '--disable-component-update', '--disable-sync']
    command += ['--enable-logging=stderr', f'--user-data-dir={tmp_path / "profile"}', '--dump-dom']
    command += [f'--blink-settings=preferredColorScheme={int(scheme == "light")}']
    command += ['--virtual-time-budget=10000', '--allow-file-access-from-files', probe.as_uri()]
    browser = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert 'CONSOLE' not in browser.stderr
    wanted = {'scrolls': False, 'loaded': True, 'reached': True, 'opened': True, 'closed': True}
    wanted |= {'whole': True, 'cut': True}
    wanted |= {'suspected': '0', 'lowest': '11', 'filtered': '5 6 7 8 9 10 11', 'focused': True}
    wanted |= {'confused': '11, 11 of 12 frames: sky predicted as car', 'restored': 12, 'drawn': True}
    wanted |= {'contrast': True, 'dark': scheme == 'dark', 'returned': True}
    assert json.loads(unescape(re.search('<title>(.*?)</title>', browser.stdout)[1])) == [wanted, wanted]
