# SPDX-License-Identifier: Apache-2.0
import base64
import itertools
import json
import re
import subprocess
from html import escape, unescape

import cv2
import numpy as np
import pytest

from lw_refinenet_ros.evaluation.report.charts import MOST_POINTS, age_chart, age_histogram, change_chart
from lw_refinenet_ros.evaluation.report.run import LegendEntry, Sample, legend_entries, write_run_report
from lw_refinenet_ros.labels import LabelSet
from test.support.html import CHROMIUM, Checker


def street(height=24, width=32):
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = 200  # red, to see the order of channels
    return image


def ages(count):
    rng = np.random.default_rng(count)
    return [(i * 0.04, 40 + 10 * rng.random()) for i in range(count)]


def write(path, **changes):
    arguments = {
        'title': 'Street',
        'verdict': '3 of 4 frames segmented',
        'tiles': [('Age', '41 ms', 'median'), ('Lost', '0', 'in transport')],
        'conditions': {'Engine': 'openvino 2026.4', 'Machine': '2 cores'},
        'samples': [Sample(street(), street(), 't = 3.20 s'), Sample(street(), street(), 't = 6.40 s')],
        'legend': [
            LegendEntry('pole', (192, 192, 128), 0.0004),
            LegendEntry('road', (128, 64, 128), 0.6),
            LegendEntry('train', (0, 80, 100), 0),
            LegendEntry('unlabelled', (0, 0, 0), 0.3996),
        ],
        'ages': ages(100),
        'misses': [(1.0, 'superseded'), (2.0, 'superseded'), (3.0, 'lost')],
        **changes,
    }
    write_run_report(path, **arguments)
    return path.read_text('utf-8')


def test_a_report_is_well_formed_and_holds_all_that_was_given(tmp_path):
    checker = Checker(write(tmp_path / 'report.html'))
    text = ' '.join(checker.texts)
    for said in ('Street', '3 of 4 frames segmented', '41 ms', 'in transport', 'openvino 2026.4', '2 cores'):
        assert said in text
    for said in ('t = 3.20 s', 't = 6.40 s', 'superseded: 2 frames', 'lost: 1 frame', 'Not seen: train'):
        assert said in text
    assert len(checker.all('circle', **{'class': 'dot'})) == 100
    assert len(checker.all('rect', **{'class': 'miss'})) == 3
    assert all(image['alt'] for image in checker.all('img'))
    assert all(svg['aria-label'] for svg in checker.all('svg', role='img'))


def test_classes_are_sorted_by_share_and_tiny_ones_are_not_called_zero(tmp_path):
    texts = Checker(write(tmp_path / 'report.html')).texts
    start = texts.index('road')
    assert texts[start : start + 6] == ['road', '60.0%', 'unlabelled', '40.0%', 'pole', '< 0.1%']


def test_a_report_refers_to_nothing_outside_itself(tmp_path):
    text = write(tmp_path / 'report.html')
    for _, attributes in Checker(text).tags:
        for name in ('src', 'href', 'xlink:href', 'srcset', 'data', 'action', 'poster'):
            assert attributes.get(name, 'data:').startswith('data:')
    text = re.sub(r'data:image/jpeg;base64,[\w+/=]+', '', text)
    assert '//' not in text
    assert 'url(' not in text
    assert '@import' not in text
    assert "default-src 'none'" in text


def test_everything_given_as_text_is_escaped(tmp_path):
    bad = '<script>alert("1")</script>&\'"'
    text = write(
        tmp_path / 'report.html',
        title=bad,
        verdict=bad,
        tiles=[(bad, bad, bad)],
        conditions={bad: bad},
        samples=[Sample(street(), street(), bad)],
        legend=[LegendEntry(bad, (1, 2, 3), 1), LegendEntry(bad, (1, 2, 3), 0)],
        misses=[(0.0, bad)],
    )
    assert '<script>alert' not in text
    checker = Checker(text)
    assert len(checker.all('script')) == 1
    assert sum(bad in said for said in checker.texts) == 12
    assert sum(bad in image['alt'] for image in checker.all('img')) == 2


def test_pictures_are_jpegs_in_their_own_colours_and_not_larger_than_a_screen(tmp_path):
    samples = [Sample(street(1080, 1920), street()[:, ::-1], 'wide')]
    first, second = Checker(write(tmp_path / 'report.html', samples=samples)).all('img')
    picture = cv2.imdecode(
        np.frombuffer(base64.b64decode(first['src'].split(',')[1]), np.uint8), cv2.IMREAD_COLOR
    )
    assert picture.shape == (720, 1280, 3)
    assert (first['width'], first['height']) == ('1280', '720')
    assert picture[..., 2].mean() > 190
    assert picture[..., :2].mean() < 10
    assert (second['width'], second['height']) == ('32', '24')


@pytest.mark.parametrize('count', [0, 1, 2, 10_000])
def test_charts_stand_any_number_of_results_and_stay_small(count):
    values = ages(count)
    chart, histogram = age_chart(values, []), age_histogram([age for _, age in values])
    Checker(chart)
    Checker(histogram)
    assert 'nan' not in chart + histogram
    assert chart.count('<circle') <= MOST_POINTS
    assert len(chart) < 100_000
    assert sum(map(int, re.findall(r': (\d+)</title>', histogram))) == count
    if count:
        median, p95 = np.percentile([age for _, age in values], (50, 95))
        assert f'median {median:.3g} ms' in chart
        assert f'p95 {p95:.3g} ms' in chart


def test_ticks_are_round_values_of_the_axes_with_units():
    chart = age_chart([(0.0, 41.0), (2500.0, 67.0)], [])
    assert re.findall('class="y(?:-name)?"[^>]*>(.*?)<', chart) == [*map(str, range(0, 80, 10)), 'age, ms']
    assert re.findall('class="x"[^>]*>(.*?)<', chart) == ['0', '500', '1,000', '1,500', '2,000', '2,500']
    assert re.findall('class="y(?:-name)?"[^>]*>(.*?)<', age_histogram([41.0])) == ['0', '1', 'results']


def test_thinning_keeps_the_extremes_and_the_order_of_time():
    values = ages(10_000)
    values[1234], values[4321] = (values[1234][0], 60.0), (values[4321][0], 20.0)
    chart = age_chart(values, [])
    line = re.search('points="(.*?)"', chart)[1].split()
    times, heights = np.array([list(map(float, point.split(','))) for point in line]).T
    assert (np.diff(times) >= 0).all()
    assert abs(times[heights.argmin()] - 12.34) < 0.01
    assert abs(times[heights.argmax()] - 43.21) < 0.01


def test_recordings_are_not_joined_but_numbered_and_named_one_frame_apart():
    points = [(0.0, 41.0), (0.5, 42.0), (1.0, 43.0), (70.0, 44.0), (70.5, 45.0)]
    chart = age_chart(points, [], recordings=[('monday <m>', 3), ('tuesday', 2)])
    lines = [line.split() for line in re.findall('points="(.*?)"', chart)]
    assert [[float(p.split(',')[0]) for p in line] for line in lines] == [[0, 25, 50], [75, 100]]
    assert re.findall('class="start-name".*?>(.*?)<', chart) == ['1', '2']
    assert 'Recordings: 1 monday &lt;m&gt;, 2 tuesday.' in chart
    assert re.findall('class="x"[^>]*>(.*?)<', chart) == ['0', '0.5', '1', '1.5', '2']


@pytest.mark.parametrize('places', [(0.0, 0.1, 0.2), (1.0, 2.0, 3.0), (5.0,), (0.0, 0.04, 9.0)])
def test_bars_of_frames_do_not_overlap(places):
    chart = change_chart([(place, 0.1) for place in places])
    bars = [tuple(map(float, bar)) for bar in re.findall('class="bar" x="(.*?)%" width="(.*?)%"', chart)]
    assert len(bars) == len(places)
    assert all(left + width <= right for (left, width), (right, _) in itertools.pairwise(bars))
    assert bars[0][0] >= 0
    assert sum(bars[-1]) <= 100


def test_a_few_outliers_do_not_flatten_the_rest_and_are_told():
    values = [(0.0, 900.0), *((i * 0.04, 40.0) for i in range(1, 100))]
    chart, histogram = age_chart(values, []), age_histogram([age for _, age in values])
    assert chart.count('class="over"') == 1
    assert chart.count('<circle') == 99
    for drawn in (chart, histogram):
        assert '1 result above 80 ms, up to 900 ms' in drawn
    assert 'class="bar over"' in histogram


def test_equal_and_zero_and_negative_ages_are_drawn():
    for age in (0.0, 41.0, -3.0, 123_456.0):
        chart, histogram = age_chart([(0.0, age), (1.0, age)], []), age_histogram([age, age])
        one, other = Checker(chart).all('circle', **{'class': 'dot'})
        assert (one['cx'], other['cx']) == ('0.0%', '100.0%')
        assert one['cy'] == other['cy']
        ticks = [
            (value, float(down)) for down, value in re.findall('class="y" [^>]*y="(.*?)%">(.*?)<', chart)
        ]
        (low, bottom), (high, top) = ((float(v.replace(',', '')), down) for v, down in (ticks[0], ticks[-1]))
        drawn = low + (bottom - float(one['cy'].rstrip('%'))) / (bottom - top) * (high - low)
        assert drawn == pytest.approx(age, abs=1e-3 * (high - low))
        assert sum(map(int, re.findall(r': (\d+)</title>', histogram))) == 2


def test_a_run_without_results_says_so_and_still_marks_its_misses():
    chart = age_chart([], [(i * 0.1, 'lost') for i in range(10)])
    assert 'No result arrived' in chart
    assert chart.count('class="miss"') == 10
    assert 'No frame was published' in age_chart([], [])


def test_an_empty_report_is_a_report(tmp_path):
    empty = {'tiles': [], 'conditions': {}, 'samples': [], 'legend': [], 'ages': [], 'misses': []}
    checker = Checker(write(tmp_path / 'report.html', **empty))
    assert {'Street', 'No frame was published.'} <= set(checker.texts)
    assert checker.all('img') == checker.all('circle') == []


def test_the_legend_counts_unlabelled_pixels_only_where_there_are_some():
    labels = LabelSet('two', ('road', 'car'), ((128, 64, 128), (0, 0, 142)))
    pixels = np.zeros(256, np.int64)
    pixels[:2] = 30, 10
    assert legend_entries(labels, pixels) == [
        LegendEntry('road', (128, 64, 128), 0.75),
        LegendEntry('car', (0, 0, 142), 0.25),
    ]
    pixels[255] = 40
    assert legend_entries(labels, pixels)[2] == LegendEntry('unlabelled', (0, 0, 0), 0.5)
    assert [entry.share for entry in legend_entries(labels, np.zeros(256, np.int64))] == [0, 0]


# Looks at the report in a frame of each width, clicks a picture there, and leaves what it saw in the title.
PROBE = """
<iframe width=390 height=800 srcdoc="{page}"></iframe><iframe width=1280 height=800 srcdoc="{page}"></iframe>
<script>
addEventListener('load', () => {{
  document.title = JSON.stringify([...document.querySelectorAll('iframe')].map(frame => {{
    const page = frame.contentDocument, pictures = [...page.querySelectorAll('.pair')[0].children];
    const places = pictures.map(picture => picture.getBoundingClientRect());
    page.querySelector('.zoom').click();
    const opened = page.querySelector('dialog').open;
    page.querySelector('dialog img').click();
    return {{
      scrolls: page.documentElement.scrollWidth > frame.clientWidth,
      beside: places[1].left >= places[0].right,
      loaded: [...page.images].every(image => image.naturalWidth > 0),
      text_px: getComputedStyle(page.querySelector('.plot .x')).fontSize,
      plot_px: page.querySelector('.plot').getBoundingClientRect().width,
      opened, closed: !page.querySelector('dialog').open,
    }};
  }}));
}});
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason='no Chromium is installed')
def test_a_browser_shows_it_on_a_phone_and_on_a_desk_without_an_error(tmp_path):
    report = write(tmp_path / 'report.html', ages=ages(1000))
    probe = tmp_path / 'probe.html'
    probe.write_text(PROBE.format(page=escape(report)), 'utf-8')
    command = [CHROMIUM, '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run']
    command += ['--disable-background-networking', '--disable-component-update', '--disable-sync']
    command += [
        '--enable-logging=stderr',
        f'--user-data-dir={tmp_path / "profile"}',
        '--dump-dom',
        probe.as_uri(),
    ]
    browser = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert 'CONSOLE' not in browser.stderr
    title = unescape(re.search('<title>(.*?)</title>', browser.stdout)[1])
    phone, desk = json.loads(title)
    for seen in (phone, desk):
        assert not seen['scrolls']
        assert seen['loaded']
        assert seen['opened']
        assert seen['closed']
        assert seen['text_px'] == '12px'
    assert not phone['beside']
    assert desk['beside']
    assert phone['plot_px'] > 250
    assert desk['plot_px'] > 900
