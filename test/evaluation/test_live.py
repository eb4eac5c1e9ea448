# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import replace

import numpy as np
import pytest

from lw_refinenet_ros.evaluation.evaluation import Evaluation
from lw_refinenet_ros.evaluation.live import Arrival, LiveRun, Published, ages, misses
from lw_refinenet_ros.evaluation.summary import headline, rows, summarize, summarize_live
from lw_refinenet_ros.files import write_json
from lw_refinenet_ros.labels import LabelSet

MS = 1_000_000
START = 5_000 * MS
STAMP = 1_700_000_000_000_000_000


def stamp(index):
    return STAMP + index * 40 * MS


def replay(ages_ms, **counters):
    """Frames at 25 Hz, sent 1 ms late; None is a frame without a result."""
    published = [
        Published(stamp(i), START + i * 40 * MS, START + (i * 40 + 1) * MS) for i in range(len(ages_ms))
    ]
    results = [
        Arrival(frame.stamp_ns, frame.due_ns + age * MS)
        for frame, age in zip(published, ages_ms)
        if age is not None
    ]
    counted = {'received': 0, 'segmented': 0, 'superseded': 0, 'lost': 0, **counters}
    stages = {'total': {'p50': 30.12345, 'p95': 40.0, 'p99': 45.0}, 'engine': {'p50': 25.0, 'p95': 30.0}}
    return LiveRun(published, results, counted, stages, {'engine': 'openvino'})


def test_the_age_of_a_result_runs_from_when_its_frame_was_due_to_its_arrival():
    assert ages(replay([30, None, 50])) == [(0.0, 30.0), (0.08, 50.0)]


def test_results_are_paired_by_stamp_whatever_their_order():
    run = replay([30, 90, 40])
    assert sorted(ages(replace(run, results=run.results[::-1]))) == ages(run)


def test_frames_without_a_result_are_named_by_their_time():
    assert misses(replay([30, None, 50, None])) == [(0.04, 'no result'), (0.12, 'no result')]


def test_a_result_that_was_never_published_is_refused_by_its_stamp():
    run = replay([30])
    run = replace(run, results=[*run.results, Arrival(4711, START)])
    for measure in (ages, misses, summarize_live):
        with pytest.raises(ValueError, match='stamped 4711 ns'):
            measure(run)


def test_a_repeated_stamp_means_the_last_frame_sent_before_the_result_came():
    run = replay([30, 20, None])
    looped = [replace(frame, stamp_ns=STAMP) for frame in run.published]
    arrivals = [replace(result, stamp_ns=STAMP) for result in run.results]
    run = replace(run, published=looped, results=arrivals)
    assert ages(run) == [(0.0, 30.0), (0.04, 20.0)]
    assert misses(run) == [(0.08, 'no result')]


def test_the_summary_has_the_fields_of_metrics_json_in_a_stable_order():
    summary = summarize_live(replay([30, 50]))
    assert list(summary)[:11] == [
        'miou',
        'pixel_accuracy',
        'per_class_iou',
        'frames',
        'latency_ms',
        'frames_published',
        'frames_received',
        'frames_segmented',
        'frames_superseded',
        'frames_lost',
        'frames_other',
    ]
    assert list(summary['age_ms']) == ['p50', 'p95', 'p99', 'max']
    assert summary['age_ms'] == {'p50': 40, 'p95': 49, 'p99': 49.8, 'max': 50}
    assert summary['latency_ms'] == {'p50': 30.123, 'p95': 40, 'p99': 45}
    assert summary['rate_hz'] == 25
    assert summary['conditions'] == {'engine': 'openvino'}
    assert summary['stages_ms']['engine'] == {'p50': 25, 'p95': 30}
    assert json.loads(json.dumps(summary)) == summary


def test_every_count_is_the_one_made_where_it_happens_even_if_they_do_not_add_up():
    run = replay([30, None, 50], received=40, segmented=30, superseded=7, lost=5, **{'warming up': 2})
    summary = summarize_live(run)
    assert summary['frames'] == 2
    assert summary['frames_published'] == 3
    counts = [summary[f'frames_{fate}'] for fate in ('received', 'segmented', 'superseded', 'lost')]
    assert counts == [40, 30, 7, 5]
    assert summary['frames_other'] == {'warming up': 2}


def test_frames_lost_before_the_first_and_after_the_last_are_counted_by_their_sequence_numbers():
    run = replay([None, None, 30, 40, None, 50, None], received=3, segmented=3, lost=1)
    assert summarize_live(run)['frames_lost'] == 1
    assert ('Unaccounted', '3', 'published, but neither received nor lost') in rows(summarize_live(run))
    run = replace(run, sequence=(3, 6))
    assert summarize_live(run)['frames_lost'] == 4
    assert 'Unaccounted' not in {name for name, _, _ in rows(summarize_live(run))}
    run = replace(replay([None, None]), sequence=(1, 1))  # of a publisher before the player
    assert summarize_live(run)['frames_lost'] == 2


def test_frames_that_the_sender_refused_are_not_published_and_have_no_sequence_number():
    run = replay([30, None, 40], received=2, segmented=2)
    published = [replace(frame, refused=index == 1) for index, frame in enumerate(run.published)]
    run = replace(run, published=published, sequence=(1, 2))
    summary = summarize_live(run)
    assert (summary['frames_published'], summary['frames_refused'], summary['frames_lost']) == (2, 1, 0)
    assert misses(run) == [(0.04, 'refused')]
    assert ('Refused', '1', 'by the middleware of the sender') in rows(summary)


def test_a_count_that_the_node_did_not_give_is_not_taken_for_zero():
    with pytest.raises(ValueError, match="no count of 'lost'"):
        summarize_live(replace(replay([30]), counters={'received': 1, 'segmented': 1, 'superseded': 0}))


def scored():
    labels = LabelSet('three', ('road', 'car', 'sky'), ((0, 0, 1), (0, 0, 2), (0, 0, 3)))
    evaluation = Evaluation(labels, 'a bag', consecutive=True)
    evaluation.confusion.update(np.array([[0, 0, 1]], np.uint8), np.array([[0, 1, 1]], np.uint8))
    return evaluation


def test_truth_gives_accuracies_by_class_name_and_null_for_a_class_that_occurs_nowhere():
    summary = summarize(scored(), {}, replay([30]))
    assert summary['per_class_iou'] == {'road': 0.5, 'car': 0.5, 'sky': None}
    assert summary['miou'] == 0.5
    assert summary['pixel_accuracy'] == pytest.approx(2 / 3)


def test_a_live_run_with_masks_has_the_figures_of_both_under_the_same_names():
    run = replay([41, 41], received=2, segmented=2, superseded=3)
    live, offline = summarize_live(run), summarize(scored(), run.conditions)
    both = summarize(scored(), run.conditions, run)
    of_live = ('latency_ms', 'stages_ms', 'frames_segmented', 'frames_published', 'age_ms', 'rate_hz')
    assert {key: both[key] for key in of_live} == {key: live[key] for key in of_live}
    assert both.keys() == offline.keys() | live.keys()
    assert {key: both[key] for key in offline.keys() - live.keys()} == {
        key: offline[key] for key in offline.keys() - live.keys()
    }
    assert headline(both) == headline(offline) == 'mIoU 50.0%, pixel accuracy 66.7% on 0 frames'
    labels, of_live, of_both = ({label for label, _, _ in rows(summary)} for summary in (offline, live, both))
    assert of_both == labels | of_live


def test_without_truth_and_results_the_figures_are_null():
    summary = summarize_live(replace(replay([None]), stages_ms={}))
    assert (summary['miou'], summary['pixel_accuracy'], summary['per_class_iou']) == (None, None, {})
    assert summary['latency_ms'] == {'p50': None, 'p95': None, 'p99': None}
    assert summary['age_ms'] == {'p50': None, 'p95': None, 'p99': None, 'max': None}
    assert summary['rate_hz'] is None
    assert headline(summary) == '0 of 1 frame segmented; no result arrived'
    assert all(value for row in rows(summary) for value in row)


def test_the_headline_and_the_rows_say_what_the_summary_says():
    summary = summarize_live(
        replay([41, 41], received=2, segmented=2, superseded=3, **{'bad: step': 1, 'skipped': 0})
    )
    assert headline(summary) == '2 of 2 frames segmented at 25 Hz; a result is 41 ms old at the median'
    shown = {label: value for label, value, _ in rows(summary)}
    assert shown == {
        'Frames segmented': '2 of 2',
        'Age of a result': '41 ms',
        'Latency in the node': '30.1 ms',
        'Superseded': '3',
        'Lost': '0',
        'Bad: step': '1',
    }


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / 'metrics.json'
    write_json(path, {'b': 1, 'a': 'Straße'})
    before = path.read_text('utf-8')
    assert before == '{\n  "b": 1,\n  "a": "Straße"\n}\n'
    with pytest.raises(ValueError, match='JSON compliant'):
        write_json(path, {'b': float('nan')})
    assert path.read_text('utf-8') == before
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError):
        write_json(path, {})
    assert list(tmp_path.iterdir()) == [path], 'a temporary file is left'
