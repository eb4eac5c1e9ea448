# SPDX-License-Identifier: Apache-2.0
"""`lw_refinenet evaluate --live`: the node itself, over DDS."""

import json
import shutil

import numpy as np
import pytest

from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.sources.opening import open_source
from test.support.recordings import assert_every_frame_has_one_fate, pictures, record, stamps

pytestmark = pytest.mark.ros

FRAMES = 8
TOPIC, TRUTH = '/front/image', '/front/truth'


def recorded(path, output):
    with open_source(path, topic=f'/lw_refinenet/{output}') as source:
        frames = [(frame.stamp_ns, frame.data.tobytes()) for frame in source]
    assert len(dict(frames)) == len(frames), 'what warmed the node up is recorded too'
    return dict(frames)


def test_live_and_offline_labels_of_a_frame_are_identical_and_so_are_the_figures(
    tmp_path, street, enlarging_weights, capsys
):
    weights = tmp_path / 'run #3: best' / 'best.safetensors'
    weights.parent.mkdir()
    shutil.copy(enlarging_weights, weights)
    images = pictures(street, FRAMES)
    segmenter = Segmenter.load(str(enlarging_weights), threads=1, network_size=(0, 160))
    truths = [np.flipud(segmenter.segment(image).label) for image in images]
    when = stamps(FRAMES)
    topics = {TOPIC: ('rgb8', list(zip(when, images))), TRUTH: ('mono8', list(zip(when, truths)))}
    bag = record(tmp_path / 'bag', topics)
    results = {}
    for name, extra in (('offline', []), ('live', ['--live', '--rate', '0.5'])):
        files = ['--json', f'{tmp_path}/{name}.json', '--output-bag', f'{tmp_path}/{name}.mcap']
        files += ['--report', f'{tmp_path}/{name}.html']
        arguments = ['--bag', str(bag), '--labels', TRUTH, '--threads', '1']
        arguments += ['--weights', str(weights), '--network-width', '160']
        assert main(['evaluate', *arguments, *files, *extra]) == 0, capsys.readouterr().err
        results[name] = json.loads((tmp_path / f'{name}.json').read_text())
    live, offline = results['live'], results['offline']
    assert_every_frame_has_one_fate(live, FRAMES)
    assert live['latency_ms']['p50'] > 0
    for output in ('label', 'confidence', 'overlay'):
        ours, theirs = (recorded(tmp_path / f'{name}.mcap', output) for name in ('live', 'offline'))
        assert len(ours) == live['frames']
        assert ours == {stamp_ns: theirs[stamp_ns] for stamp_ns in ours}
    rows = {
        name: dict(zip(r['per_frame']['stamp_ns'], r['per_frame']['union'])) for name, r in results.items()
    }
    assert rows['live'] == {stamp_ns: rows['offline'][stamp_ns] for stamp_ns in rows['live']}
    if live['frames'] == FRAMES:
        assert live['confusion_matrix'] == offline['confusion_matrix']
    assert 'Age of the results' in (tmp_path / 'live.html').read_text()


def test_live_scores_the_frames_beside_one_that_cannot_be_read(tmp_path, street, tiny_weights, capsys):
    when, images = stamps(4), pictures(street, 4)
    truths = [np.zeros(street.shape[:2], np.uint8)] * 4
    topics = {
        f'{TOPIC}/compressed': ('png', list(zip(when, images))),
        TRUTH: ('mono8', list(zip(when, truths))),
    }
    bag = record(tmp_path / 'bag', topics)
    content = (bag / 'bag.mcap').read_bytes()
    at = content.index(b'\x89PNG', content.index(b'\x89PNG') + 1)
    (bag / 'bag.mcap').write_bytes(content[: at + 4] + bytes(8) + content[at + 12 :])
    arguments = ['--bag', str(bag), '--labels', TRUTH, '--weights', str(tiny_weights)]
    result = tmp_path / 'live.json'
    status = main(['evaluate', *arguments, '--live', '--rate', '0.5', '--json', str(result), '--keep-going'])
    assert status == 0, capsys.readouterr().err
    scores = json.loads(result.read_text())
    assert_every_frame_has_one_fate(scores, 3)
    assert scores['problems']['count'] == 1


def test_live_without_a_bag_is_refused(tmp_path, capsys):
    assert main(['evaluate', '--images', str(tmp_path), '--labels', str(tmp_path), '--live']) == 2
    assert '--live needs a --bag' in capsys.readouterr().err
