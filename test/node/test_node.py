# SPDX-License-Identifier: Apache-2.0
"""The node in its own process, over real DDS."""

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest
import yaml

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

from rcl_interfaces.msg import Log, Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import ListParameters, SetParameters
from std_msgs.msg import Header

from lw_refinenet_ros.image.label_png import write_label_png
from lw_refinenet_ros.limits import MAX_NETWORK_SIDE
from lw_refinenet_ros.node.parameters import PARAMETERS
from test.support import ROOT
from test.support.fast_dds import IS_FAST_DDS
from test.support.node_process import NodeProcess, pixels_of, stamp_of

pytestmark = pytest.mark.ros

STAMP = 12_000_000_345


@pytest.fixture(scope='module')
def node(tiny_weights):
    running = NodeProcess(weights=str(tiny_weights), network_height=96, network_width=128)
    running.listen('label', 'color', 'overlay', 'confidence', 'mask', 'label_names')
    running.wait_active()
    yield running
    running.close()


def test_a_frame_gives_the_label_that_the_segmenter_gives_offline(node, segmenter, street):
    answer = node.answer('label', street, STAMP)
    expected = segmenter.segment(street).label
    assert len(np.unique(expected)) > 1, 'a picture of one class proves nothing'
    assert (answer.encoding, answer.step, answer.height, answer.width) == ('mono8', 128, 96, 128)
    np.testing.assert_array_equal(pixels_of(answer), expected)


@pytest.mark.parametrize('frame_id', ['camera_optical', '', 'ü', 'left/ü', 'x' * 5000])
def test_the_header_of_the_input_comes_out_unchanged(node, segmenter, street, frame_id):
    stamp_ns = STAMP + 5_000 + len(frame_id)
    header = Header(frame_id=frame_id)
    header.stamp.sec, header.stamp.nanosec = divmod(stamp_ns, 10**9)
    answer = node.answer('label', street, stamp_ns, header=header)
    assert stamp_of(answer) == stamp_ns
    assert answer.header.frame_id == frame_id
    np.testing.assert_array_equal(pixels_of(answer), segmenter.segment(street).label)


def test_bgr_and_padded_rows_give_the_same_label(node, segmenter, street):
    expected = segmenter.segment(street).label
    answer = node.answer('label', street[..., ::-1], STAMP + 2, encoding='bgr8')
    np.testing.assert_array_equal(pixels_of(answer), expected)
    padded = np.zeros((96, 400), np.uint8)
    padded[:, :384] = street.reshape(96, 384)
    answer = node.answer('label', padded, STAMP + 3, width=128, step=400)
    np.testing.assert_array_equal(pixels_of(answer), expected)


def test_color_and_overlay_are_the_segmenters(node, segmenter, street):
    result = segmenter.segment(street)
    color = node.answer('color', street, STAMP + 4)
    overlay = node.answer('overlay', street, STAMP + 4)
    assert color.encoding == overlay.encoding == 'rgb8'
    np.testing.assert_array_equal(pixels_of(color), result.color())
    np.testing.assert_array_equal(pixels_of(overlay), result.overlay(0.5))


def test_the_mask_is_255_for_its_classes_from_the_next_frame_on(node, segmenter, street):
    label = segmenter.segment(street).label
    assert not pixels_of(node.answer('mask', street, STAMP + 20)).any(), 'no class by default'
    assert node.set(mask_classes=['sky', 'car', 'unlabelled'])[0].successful
    mask = node.answer('mask', street, STAMP + 21)
    assert mask.encoding == 'mono8'
    np.testing.assert_array_equal(pixels_of(mask), np.where(label == 1, 0, 255))
    (result,) = node.set(mask_classes=['sea'])
    assert result.reason == (
        'mask_classes: no class is called \'sea\'; [""] is none, there are sky, road, car, unlabelled'
    )
    assert node.set(mask_classes=[''])[0].successful


def test_groups_take_the_place_of_the_classes_from_the_next_frame_on(node, segmenter, street, tmp_path):
    ids = np.array([255, 1, 0], np.uint8)
    (tmp_path / 'groups.yaml').write_text(
        '{name: two, classes: [{name: lethal, color: [255, 0, 0], of: [car]}, '
        '{name: ground, color: [0, 255, 0], of: [road]}]}'
    )

    def await_names(*names):
        def there():
            messages = node.received['label_names']
            return messages and [e['name'] for e in json.loads(messages[-1].data)['classes']] == [*names]

        node.spin_until(there, f'label names {names}')

    assert node.set(class_groups=str(tmp_path / 'groups.yaml'))[0].successful
    await_names('lethal', 'ground', 'unlabelled')
    label = pixels_of(node.answer('label', street, STAMP + 40))
    np.testing.assert_array_equal(label, ids[segmenter.segment(street).label])
    assert node.set(mask_classes=['ground'])[0].successful
    mask = pixels_of(node.answer('mask', street, STAMP + 41))
    np.testing.assert_array_equal(mask, np.where(label == 1, 255, 0))
    refused = {'mask_classes': ['road'], 'class_groups': str(tmp_path / 'none.yaml')}
    assert not any(result.successful for result in node.set(**refused))
    (result,) = node.set(class_groups='')
    assert result.reason.startswith("mask_classes: no class is called 'ground'")
    assert node.set_atomically(class_groups='', mask_classes=['']).successful
    await_names('sky', 'road', 'car', 'unlabelled')
    label = pixels_of(node.answer('label', street, STAMP + 42))
    np.testing.assert_array_equal(label, segmenter.segment(street).label)


def test_the_service_enable_sets_the_parameter(node):
    SetBool = pytest.importorskip('std_srvs.srv', reason='std_srvs is not installed').SetBool  # noqa: N806
    for value in (False, True):
        answer = node.call(SetBool, 'enable', SetBool.Request(data=value))
        assert (answer.success, answer.message) == (True, '')
        assert node.get('enabled')[0].bool_value is value


@pytest.mark.parametrize(('degrees', 'quarters'), [(90, 3), (180, 2), (270, 1)])
def test_a_rotated_image_is_seen_upright_and_its_results_come_back_as_the_camera_sees(
    node, segmenter, street, degrees, quarters
):
    assert node.set(rotate=degrees)[0].successful
    stamp_ns = STAMP + 22 + quarters
    answers = {topic: node.answer(topic, street, stamp_ns) for topic in ('label', 'confidence', 'overlay')}
    assert node.set(rotate=0)[0].successful
    image = np.ascontiguousarray(np.rot90(street, quarters))
    upright = segmenter.segment(image, network_size=(96, 128), confidence=True)
    expected = {'label': upright.label, 'confidence': upright.confidence, 'overlay': upright.overlay(0.5)}
    for topic, image in expected.items():
        np.testing.assert_array_equal(pixels_of(answers[topic]), np.rot90(image, -quarters))


def test_pixels_of_the_ignore_mask_are_unlabelled_and_one_that_does_not_fit_is_named(
    node, segmenter, street, tmp_path
):
    body = np.zeros((96, 128), np.uint8)
    body[60:, 20:90] = 1
    write_label_png(tmp_path / 'body.png', body)
    write_label_png(tmp_path / 'other.png', body[1:])
    assert node.set(ignore_mask=str(tmp_path / 'body.png'))[0].successful
    label = node.answer('label', street, STAMP + 30)
    np.testing.assert_array_equal(pixels_of(label), np.where(body, 255, segmenter.segment(street).label))

    (result,) = node.set(ignore_mask=str(tmp_path / 'none.png'))
    assert result.reason.startswith('ignore_mask: ')
    assert 'none.png' in result.reason
    assert node.set(ignore_mask=str(tmp_path / 'other.png'))[0].successful
    expected = 'frame dropped: ignore_mask is 128x95, the image 128x96: give one of its size'

    def named():
        node.send(street, stamp_ns=STAMP + 31)
        node.executor.spin_once(timeout_sec=0.1)
        return node.status[0] == expected

    node.spin_until(named, expected)
    assert node.status[2]['bad: ignore_mask'] > 0
    assert node.set(ignore_mask='')[0].successful


def test_a_rotation_by_other_than_quarters_is_refused(node):
    (result,) = node.set(rotate=45)
    assert result.reason == 'rotate 45 is unknown: choose one of 0, 90, 180, 270'


def test_confidence_is_the_segmenters(node, segmenter, street):
    answer = node.answer('confidence', street, STAMP + 5)
    np.testing.assert_array_equal(pixels_of(answer), segmenter.segment(street, confidence=True).confidence)


def test_label_names_are_latched_and_list_the_unlabelled(node):
    message = node.spin_until(lambda: node.received['label_names'], 'label names')[-1]
    named = {entry['id']: entry['name'] for entry in json.loads(message.data)['classes']}
    assert named == {0: 'sky', 1: 'road', 2: 'car', 255: 'unlabelled'}


def test_a_changed_parameter_is_in_the_next_frame(node, street):
    assert node.set(overlay_alpha=0.0)[0].successful
    answer = node.answer('overlay', street, STAMP + 6)
    np.testing.assert_array_equal(pixels_of(answer), street)
    assert node.set(overlay_alpha=0.5)[0].successful


def test_a_value_out_of_range_is_refused_with_the_range(node):
    (result,) = node.set(overlay_alpha=1.5)
    assert not result.successful
    assert result.reason == 'overlay_alpha: 1.5 is out of range; write a value from 0.0 to 1.0'
    assert node.get('overlay_alpha')[0].double_value == 0.5


@pytest.mark.parametrize(
    ('name', 'value', 'said'),
    [
        ('overlay_alpha', 'high', "overlay_alpha: 'high' is no number; write one from 0.0 to 1.0"),
        ('overlay_alpha', 2, 'overlay_alpha: 2.0 is out of range; write a value from 0.0 to 1.0'),
        ('overlay_alpha', math.nan, 'overlay_alpha: nan is out of range; write a value from 0.0 to 1.0'),
        ('overlay_alpha', None, 'overlay_alpha: it has no value; write one from 0.0 to 1.0'),
        (
            'network_height',
            480.0,
            'network_height: 480.0 is no whole number; write one without a decimal poi',
        ),
        ('network_height', 16000, 'network_height 16000 is above 4096: use less'),
        ('network_width', -5, 'network_width -5 is smaller than one cell of the network: use 0 or at least'),
        ('enabled', 1, 'enabled: 1 is no boolean; write true or false'),
        ('use_sim_time', 'yes', "use_sim_time: 'yes' is no boolean; write true or false"),
        ('weights', 5, 'weights: 5 is no text; write what looks like a number or a list in quotes'),
        (
            'mask_classes',
            'car',
            """mask_classes: 'car' is no list of texts; write one like ["road", "car"]""",
        ),
        ('mask_classes', [1, 2], 'mask_classes: [1, 2] is no list of texts; write one like '),
        (
            'device',
            'cpu',
            "device is read at the start only; for 'cpu', set it in the parameter file or with -p",
        ),
        (
            'overlay_alfa',
            0.5,
            "no parameter is called 'overlay_alfa', did you mean 'overlay_alpha'?; there are ",
        ),
    ],
)
def test_a_refused_parameter_is_one_line_with_the_value_and_the_remedy(node, name, value, said):
    for result in (*node.set(**{name: value}), node.set_atomically(**{'max_rate': 5.0, name: value})):
        assert not result.successful
        assert result.reason.startswith(said)
        assert result.reason.count('\n') == 0
    assert node.get('max_rate')[0].double_value == 0.0


@pytest.mark.parametrize('name', ['weights', 'class_groups', 'ignore_mask'])
@pytest.mark.parametrize('kind', ['folder', 'missing', 'empty'])
def test_a_file_that_cannot_be_used_is_one_line_with_the_parameter_and_the_path(node, tmp_path, name, kind):
    (tmp_path / 'empty').touch()
    (tmp_path / 'folder').mkdir()
    path = str(tmp_path / kind)
    (result,) = node.set(**{name: path})
    assert result.reason.startswith(f'{name}: ')
    assert path in result.reason
    assert result.reason.count('\n') == 0


def test_a_transform_of_other_than_numbers_is_refused_with_what_to_write(node):
    (result,) = node.set(points_transform='/camera')
    assert result.reason == (
        "points_transform: could not convert string to float: '/camera'; "
        'write x y z qx qy qz qw, seven numbers'
    )


def test_a_whole_number_is_taken_for_a_double_and_is_one_from_then_on(node, street):
    assert node.set_atomically(overlay_alpha=0, max_rate=0).successful
    (value,) = node.get('overlay_alpha')
    assert (value.type, value.double_value) == (ParameterType.PARAMETER_DOUBLE, 0.0)
    np.testing.assert_array_equal(pixels_of(node.answer('overlay', street, STAMP + 12)), street)
    assert node.set(overlay_alpha=0.5)[0].successful


def test_every_parameter_takes_the_value_that_it_has_as_when_a_dump_is_loaded(node):
    names = node.call(ListParameters, 'list_parameters', ListParameters.Request()).result.names
    assert {'weights', 'device', 'cameras'} < set(names)
    dump = [Parameter(name=name, value=value) for name, value in zip(names, node.get(*names))]
    request = SetParameters.Request(parameters=dump)
    refused = [
        result.reason
        for result in node.call(SetParameters, 'set_parameters', request).results
        if not result.successful
    ]
    assert refused == []


def test_unknown_classes_are_refused(node):
    (result,) = node.set(overlay_classes=['sky', 'sea'])
    assert not result.successful
    assert "'sea'" in result.reason
    assert 'road' in result.reason
    (result,) = node.set(overlay_classes=['unlabelled'])  # which has no colour to paint
    assert result.reason.startswith("overlay_classes: no class is called 'unlabelled'; ")


@pytest.mark.parametrize('name', ['network_height', 'network_width'])
def test_a_network_size_that_images_would_not_fit_is_refused_at_once(node, name):
    (before,) = node.get(name)
    for result in (*node.set(**{name: 4097}), node.set_atomically(**{name: 4097})):
        assert result.reason == f'{name} 4097 is above 4096: use less'
    assert node.get(name)[0] == before


def test_the_largest_network_height_alone_serves_images_up_to_twice_as_wide(segmenter):
    assert segmenter.job((480, 960), network_size=(MAX_NETWORK_SIDE, 0)).network_size == (4096, 8192)
    assert segmenter.job((960, 480), network_size=(0, MAX_NETWORK_SIDE)).network_size == (8192, 4096)
    with pytest.raises(ValueError, match='choose a network_height and network_width'):
        segmenter.job((480, 961), network_size=(MAX_NETWORK_SIDE, 0))


def test_an_empty_list_is_refused_since_it_has_no_type_when_it_is_loaded_again(node):
    value = ParameterValue(type=ParameterType.PARAMETER_STRING_ARRAY)  # as rqt_reconfigure sends it
    request = SetParameters.Request(parameters=[Parameter(name='overlay_classes', value=value)])
    (result,) = node.call(SetParameters, 'set_parameters', request).results
    assert result.reason == 'overlay_classes: an empty list has no type in ROS; write [""]'
    assert list(node.get('overlay_classes')[0].string_array_value) == ['']


def test_text_that_is_too_long_for_a_parameter_is_refused(node):
    (result,) = node.set(overlay_classes=['x' * 5000, 'y' * 5000])
    assert result.reason == 'overlay_classes has 10000 characters: at most 8192 are allowed'


def test_a_refusal_is_logged_since_rqt_reconfigure_does_not_show_it(node):
    logs = []
    node.client.create_subscription(Log, '/rosout', lambda log: logs.append(log.msg), 10)
    node.spin_until(lambda: node.client.count_subscribers('/rosout'), 'subscription')

    def logged() -> bool:
        node.set(overlay_classes=['sea'])
        return any(
            text.startswith("parameters not changed: overlay_classes: no class is called 'sea'")
            for text in logs
        )

    node.spin_until(logged, 'warning')


@pytest.mark.parametrize(
    ('given', 'said'),
    [
        ('overlay_alpha:=high', "overlay_alpha: 'high' is no number; write one from 0.0 to 1.0"),
        ('overlay_alpha:=2', 'overlay_alpha: 2.0 is out of range; write a value from 0.0 to 1.0'),
        ('max_rate:=-1.0', 'max_rate: -1.0 is out of range; write a value from 0.0 to 1000.0'),
        ('threads:=2000', 'threads: 2000 is out of range; write a value from 0 to 1024'),
        ('weights:=5', 'weights: 5 is no text; write '),
        ('cameras:=[]', 'cameras: an empty list has no type in ROS; write [""]'),
    ],
)
def test_a_bad_parameter_at_the_start_ends_the_node_with_one_line(given, said):
    command = [sys.executable, '-m', 'lw_refinenet_ros.node.main', '--ros-args', '-p', given]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith('segmentation_node: ')
    assert said in done.stderr
    assert done.stderr.count('\n') == 1


def test_several_parameters_are_refused_as_a_whole(node):
    result = node.set_atomically(overlay_alpha=0.25, max_rate=5.0, overlay_classes=['sea'])
    assert not result.successful
    assert "'sea'" in result.reason
    result = node.set_atomically(overlay_alpha=0.25, max_rate=-5.0)
    assert not result.successful
    alpha, rate = node.get('overlay_alpha', 'max_rate')
    assert (alpha.double_value, rate.double_value) == (0.5, 0.0)


def test_every_parameter_is_described_with_its_range(node):
    for parameter, descriptor in zip(PARAMETERS, node.describe(*(p.name for p in PARAMETERS))):
        assert descriptor.description.startswith(parameter.description)
        ranges = [*descriptor.integer_range, *descriptor.floating_point_range]
        wanted = [parameter.range] if parameter.range else []
        assert [(each.from_value, each.to_value) for each in ranges] == wanted
        assert descriptor.read_only == parameter.read_only


@pytest.mark.parametrize(
    ('reason', 'fields'),
    [
        ('step', {'step': 100}),
        ('length', {'height': 97}),
        ('size', {'height': 0}),
        ('encoding', {'encoding': '32FC1'}),
    ],
)
def test_a_malformed_frame_is_counted_by_reason_and_the_next_is_served(node, street, reason, fields):
    def count():
        return node.status[2].get(f'bad: {reason}', 0)

    before = count()
    node.send(street, **({'encoding': 'rgb8'} | fields))
    node.spin_until(lambda: count() > before, f'count of bad {reason}')
    node.answer('label', street, STAMP + 100 + len(reason))


def test_a_change_of_resolution_is_served(node, segmenter, street):
    smaller = np.ascontiguousarray(street[:64, :96])
    assert node.set_atomically(network_height=0, network_width=0).successful
    answer = node.answer('label', smaller, STAMP + 7)
    np.testing.assert_array_equal(pixels_of(answer), segmenter.segment(smaller).label)
    node.answer('label', street, STAMP + 8)


def test_min_confidence_turns_unsure_pixels_unlabelled(node, segmenter, street):
    sure = segmenter.segment(street, confidence=True)
    threshold = float(np.median(sure.confidence)) / 255
    assert node.set(min_confidence=threshold)[0].successful
    answer = node.answer('label', street, STAMP + 9)
    expected = np.where(sure.confidence < threshold * 255, 255, sure.label)
    assert (expected == 255).any()
    np.testing.assert_array_equal(pixels_of(answer), expected)
    assert node.set(min_confidence=0.0)[0].successful


def test_a_disabled_node_leaves_the_camera_and_segments_none(node, street):
    assert node.set(enabled=False)[0].successful
    node.spin_until(lambda: not node.images.get_subscription_count(), 'end of the subscription')
    node.send(street, stamp_ns=STAMP + 10)
    node.spin_until(lambda: node.status[0] == 'disabled', 'disabled node')
    assert node.set(enabled=True)[0].successful
    node.answer('label', street, STAMP + 11)
    assert not [m for m in node.received['label'] if stamp_of(m) == STAMP + 10]


def test_max_rate_skips_frames_that_come_too_soon(node, street):
    assert node.set(max_rate=0.5)[0].successful
    before = node.status[2]['skipped']
    stamps = iter(range(STAMP + 20, STAMP + 1000))

    def skipped():
        node.send(street, stamp_ns=next(stamps))
        return node.status[2]['skipped'] >= before + 3

    node.spin_until(skipped, 'skipped frames')
    assert node.set(max_rate=0.0)[0].successful


def test_diagnostics_tell_rate_latencies_engine_and_model(node, street):
    node.answer('label', street, STAMP + 30)
    node.spin_until(lambda: 'total' in node.status[3], 'latencies')
    _, values, fates, stages = node.status
    assert values['architecture'] == 'lw_refinenet_efficientnet_lite0'
    assert values['topic'] == '/image'
    assert values['middleware'].startswith('rmw_')
    assert ('shared memory of' in values['large images']) == IS_FAST_DDS
    if IS_FAST_DDS:
        assert re.fullmatch(r'\d+ to \d+', values['sequence numbers'])
    assert float(values['rate_hz']) >= 0
    assert fates['segmented'] > 0
    assert 'lost' in fates
    assert set(stages) == {'wait', 'view', 'inference', 'publish', 'total'}
    assert 0 < stages['inference']['p50'] <= stages['total']['p99']


def test_the_parameter_file_says_the_defaults():
    document = yaml.safe_load((ROOT / 'config/segmentation.yaml').read_text())
    assert document['/**/lw_refinenet']['ros__parameters'] == {p.name: p.default for p in PARAMETERS}
