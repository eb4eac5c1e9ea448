# SPDX-License-Identifier: Apache-2.0
"""The doctor's judgement of facts, without ROS."""

from dataclasses import replace

import pytest
import yaml

from lw_refinenet_ros.nav2_layer import assign_types, write_layer
from lw_refinenet_ros.node.doctor.facts import Camera, Endpoint, Facts, Message, Stream
from lw_refinenet_ros.node.doctor.judge import judge
from lw_refinenet_ros.node.doctor.nav2_parameters import check_costmap
from lw_refinenet_ros.node.process.parameter_files import read_sections

NODE, COSTMAP = '/lw_refinenet', '/local_costmap/local_costmap'
NAMES = {0: 'sky', 1: 'road', 255: 'unlabelled'}
DAY_NS = 86_400 * 10**9
STAMPS = range(10**9, 2 * 10**9, 10**8)
IMAGE, CLOUD, INFO = (f'sensor_msgs/msg/{kind}' for kind in ('Image', 'PointCloud2', 'CameraInfo'))


def stream(topic, kind, publisher, *, latched=False, size=300_000, width=640):
    messages = tuple(Message(stamp, 'camera', 480, width, size) for stamp in STAMPS)
    publishers = (Endpoint(publisher, kind, reliable=True, latched=latched),)
    subscribers = (Endpoint('/rviz', kind, reliable=True, latched=latched),)
    return Stream(topic, publishers, subscribers, messages, seconds=1.0)


STREAMS = {
    'image': stream('/image', IMAGE, '/camera'),
    'depth': stream('/depth', IMAGE, '/camera'),
    'camera_info': stream('/camera_info', INFO, '/camera'),
    'label': stream(f'{NODE}/label', IMAGE, NODE),
    'confidence': stream(f'{NODE}/confidence', IMAGE, NODE),
    'points': stream(f'{NODE}/points', CLOUD, NODE),
}
CAMERA = Camera(
    name='',
    level=0,
    message='ready',
    values={
        'state': 'active',
        'engine': 'OpenVINO on CPU; no CUDA here',
        'weights': 'tiny',
        'age_ms': '20.0',
    },
    counted={'received': 10, 'segmented': 10, 'lost': 0},
    streams=STREAMS,
)
WELL = Facts(
    node=NODE,
    middleware='rmw_fastrtps_cpp',
    cameras=(CAMERA,),
    topics={'/image': (IMAGE,), f'{NODE}/label': (IMAGE,)},
    sim_time={NODE: False},
    names=NAMES,
    label_info=NAMES,
    latched={
        name: stream(f'{NODE}/{name}', name, NODE, latched=True) for name in ('label_names', 'label_info')
    },
    parents={},
    segments=(128 << 20, 128 << 20),
)


def changed(role, **fields):
    """The well system with one stream changed."""
    return with_camera(streams=STREAMS | {role: replace(STREAMS[role], **fields)})


def with_camera(**fields):
    return replace(WELL, cameras=(replace(CAMERA, **fields),))


def with_last(role, **fields):
    return changed(role, messages=tuple(replace(m, **fields) for m in STREAMS[role].messages))


def with_stream(role, topic, kind, **fields):
    return with_camera(streams=STREAMS | {role: replace(stream(topic, kind, '/sensor'), **fields)})


def of_another_clock(offset_ns, pace=1, loop_at=10):
    """Images that came `offset_ns` after their stamps, at first, and `pace` times as slowly."""
    values = {name: value for name, value in CAMERA.values.items() if name != 'age_ms'}
    messages = tuple(
        replace(m, received_ns=STAMPS[0] + offset_ns + (m.stamp_ns - STAMPS[0]) * pace)
        for m in STREAMS['image'].messages
    )
    messages = tuple(
        replace(m, stamp_ns=m.stamp_ns - 20 * 10**9 * (index >= loop_at)) for index, m in enumerate(messages)
    )
    return with_camera(
        values=values, streams=STREAMS | {'image': replace(STREAMS['image'], messages=messages)}
    )


def with_jumps(every, of):
    """Images whose stamps go back to the first at every so many."""
    first = STREAMS['image'].messages[0]
    stamps = [first.stamp_ns + n % every * 10**8 for n in range(of)]
    return changed('image', messages=tuple(replace(first, stamp_ns=each) for each in stamps))


def with_latched(name, **fields):
    return replace(WELL, latched=WELL.latched | {name: replace(WELL.latched[name], **fields)})


def wrong(facts):
    return {each.check: each for each in judge(facts) if each.level != 'ok'}


def test_a_well_system_has_every_check_and_nothing_wrong():
    assert wrong(WELL) == {}
    checks = {each.check for each in judge(WELL)}
    assert {'node', 'engine', 'diagnostics', 'image: QoS', 'image: rate', 'frames', 'age'} <= checks
    assert {'depth with image', 'points with label', 'points: size', 'label_names', 'label_info'} <= checks
    assert {'use_sim_time', 'large images', 'shared memory'} <= checks
    assert all(each.remedy == '' for each in judge(WELL))


def test_points_of_a_depth_that_is_not_aligned_have_its_size_and_its_stamps():
    apart = {
        role: replace(
            STREAMS[role],
            messages=tuple(
                replace(m, width=424, stamp_ns=m.stamp_ns + 3_000_000) for m in STREAMS[role].messages
            ),
        )
        for role in ('depth', 'points')
    }
    facts = with_camera(streams=STREAMS | apart)
    assert wrong(facts) == {}
    assert 'points with depth' in {each.check for each in judge(facts)}


BEST_EFFORT = (Endpoint('/camera', IMAGE, reliable=False, latched=False),)


JPEG = 'sensor_msgs/msg/CompressedImage'


def test_topics_that_the_node_takes_as_depth_or_publishes_are_not_proposed_as_image():
    without = changed('image', publishers=(), messages=())
    rear = replace(CAMERA, name='rear', streams={'depth': replace(STREAMS['depth'], topic='/rear/depth')})
    own = dict.fromkeys(('/depth', '/rear/depth', f'{NODE}/label'), (IMAGE,))
    for topics, there in (
        (own, 'no image topic'),
        (own | {'/camera/image_raw': (IMAGE,)}, '/camera/image_raw'),
    ):
        found = wrong(replace(without, cameras=(*without.cameras, rear), topics=topics))['image']
        assert found.remedy == f'start the camera, or remap image; there is {there}'


def test_a_topic_of_another_type_is_not_blamed_on_the_middleware():
    lidar = Endpoint('/lidar', 'livox_ros_driver2/msg/CustomMsg', reliable=True, latched=False)
    found = wrong(changed('depth', publishers=(lidar,), messages=()))
    assert 'livox_ros_driver2/msg/CustomMsg on /depth' in found['depth: type'].value
    assert 'depth: rate' not in found


def test_jpegs_are_what_the_compressed_transport_expects():
    camera = Endpoint('/camera', JPEG, reliable=True, latched=False)
    sent = {'topic': '/image/compressed', 'publishers': (camera,), 'subscribers': ()}
    assert wrong(changed('image', **sent)) == {}
    assert 'image: type' in wrong(changed('image', **sent | {'publishers': STREAMS['image'].publishers}))


@pytest.mark.parametrize(
    ('facts', 'level', 'check', 'value', 'remedy'),
    [
        (replace(WELL, cameras=(), running=('/seg',)), 'fault', 'node', 'no diagnostics', '/seg'),
        (replace(WELL, cameras=()), 'fault', 'node', 'no diagnostics', 'ROS_DOMAIN_ID'),
        (
            replace(WELL, cameras=(), separation='run both as'),
            'fault',
            'node',
            'no diagnostics',
            'run both as',
        ),
        (with_camera(values={'state': 'inactive'}), 'fault', 'node', 'inactive', 'activate'),
        (with_camera(values={'state': 'warming up'}), 'warning', 'node', 'warming up', 'wait'),
        (with_camera(level=2, message='no memory'), 'fault', 'diagnostics', 'no memory', 'log'),
        (with_camera(level=1, message='no ~/points'), 'warning', 'diagnostics', 'no ~/points', 'log'),
        (
            changed('image', publishers=(), messages=()),
            'fault',
            'image',
            'nobody publishes /image',
            'remap image; there is no image topic',
        ),
        (
            replace(
                changed('image', publishers=(), messages=()),
                node='/seg',
                topics={'/seg/overlay': (IMAGE,), '/segcam/image': (IMAGE,)},
            ),
            'fault',
            'image',
            'nobody publishes /image',
            'there is /segcam/image',
        ),
        (
            replace(changed('image', publishers=(), messages=()), topics={'/image/compressed': (JPEG,)}),
            'fault',
            'image',
            'nobody publishes /image',
            'set image_transport: compressed, since there is /image/compressed',
        ),
        (
            changed('image', publishers=BEST_EFFORT),
            'fault',
            'image: QoS',
            '/image',  # and nothing else is said of it
            'best',
        ),
        (
            changed('label', subscribers=(Endpoint('/rviz', IMAGE, reliable=True, latched=True),)),
            'fault',
            'label: QoS',
            '/label',
            'volatile',
        ),
        (
            changed('label', subscribers=(Endpoint('/rviz', CLOUD, reliable=True, latched=False),)),
            'fault',
            'label: type',
            f'/rviz: {CLOUD} on {NODE}/label',
            f'use {IMAGE}',
        ),
        (changed('image', publishers=BEST_EFFORT * 2), 'warning', 'image', 'several publishers', 'leave one'),
        (changed('image', messages=()), 'fault', 'image: rate', 'nothing came on /image', 'Fast DDS profile'),
        (changed('label', messages=()), 'fault', 'label: rate', 'no label though images', 'log'),
        (with_camera(counted={'received': 9, 'lost': 3}), 'warning', 'frames', '3 lost', 'Fast DDS profile'),
        (
            with_camera(counted={'segmented': 1, 'bad: step': 2}),
            'warning',
            'frames',
            '2 bad: step',
            'fix the camera',
        ),
        (
            with_camera(counted={'segmented': 1, 'failed': 2}),
            'warning',
            'frames',
            '2 failed',
            "the node's log has more",
        ),
        (changed('image', seconds=4.0), 'ok', 'image: rate', '2.5 Hz on /image', ''),
        (
            changed(
                'depth', messages=[Message(s, 'camera', 480, 640, 9) for s in range(10**9, 2 * 10**9, 10**7)]
            ),
            'ok',
            'depth with image',
            '10 of 10 stamps',
            '',
        ),
        (
            with_stream(
                'cloud', '/points', CLOUD, messages=[Message(s + 4_000_000, 'lidar', 1, 9, 9) for s in STAMPS]
            ),
            'ok',
            'cloud with image',
            '10 of 10 stamps',
            '',
        ),
        (
            with_camera(values=CAMERA.values | {'age_ms': '900.0'}),
            'warning',
            'age',
            '900.0 ms',
            'network_height',
        ),
        (
            with_camera(values=CAMERA.values | {'age_ms': '-70.0'}),
            'warning',
            'age',
            'in the future',
            'chrony',
        ),
        (of_another_clock(54 * DAY_NS), 'warning', 'age', 'a constant 54.0 days behind the clock', '--clock'),
        (of_another_clock(-90 * 10**9), 'warning', 'age', 'a constant 90.0 s ahead of the clock', 'chrony'),
        (
            of_another_clock(DAY_NS, pace=3),
            'warning',
            'age',
            '24.0 hours behind the clock and drift by 1.8 s while watched, as of a bag at another rate',
            'labels need nothing; for tf and Nav2',
        ),
        (
            of_another_clock(DAY_NS, pace=0.2),
            'warning',
            'age',
            '24.0 hours behind the clock and drift by -0.7 s while watched',
            'labels need nothing',
        ),
        (
            with_camera(
                values=CAMERA.values | {'age_ms': '-600000.0'},
                streams=of_another_clock(-600 * 10**9).cameras[0].streams,
            ),
            'warning',
            'age',
            'a constant 10.0 minutes ahead of the clock',
            'chrony',
        ),
        (
            replace(of_another_clock(54 * DAY_NS), costmaps={COSTMAP: {}}),
            'fault',
            'age',
            'a constant 54.0 days behind the clock',
            'use_sim_time: true of all nodes',
        ),
        (
            replace(of_another_clock(DAY_NS), sim_time={NODE: True}, clock=True),
            'fault',
            'age',
            "of another clock than the node's",
            'use_sim_time',
        ),
        (
            with_camera(values=CAMERA.values | {'age_ms': '600000.0'}, streams={}),
            'fault',
            'age',
            "of another clock than the node's",
            'use_sim_time',
        ),
        (
            of_another_clock(54 * DAY_NS, loop_at=5),
            'warning',
            'age',
            'a constant 54.0 days behind the clock',
            'labels need nothing',
        ),
        (with_last('image', stamp_ns=0), 'fault', 'image: stamps', '0 in all messages on /image', 'driver'),
        (with_last('depth', stamp_ns=0), 'fault', 'depth: stamps', '0 in all messages on /depth', 'driver'),
        (
            with_last('image', stamp_ns=5 * 10**9),
            'fault',
            'image: stamps',
            'stand still at 5.000 s',
            'driver',
        ),
        (
            changed('image', messages=STREAMS['image'].messages[5:] + STREAMS['image'].messages[:5]),
            'warning',
            'image: stamps',
            '1 of 9 on /image are not later than the one before',
            'only a bag that is looped starts again',
        ),
        (
            changed('image', messages=STREAMS['image'].messages[:9] + STREAMS['image'].messages[8:9]),
            'warning',
            'image: stamps',
            '1 of 9 on /image are not later than the one before',
            'driver',
        ),
        (
            with_jumps(every=5, of=50),
            'fault',
            'image: stamps',
            '9 of 49 on /image are not later than the one before',
            'driver',
        ),
        (
            with_jumps(every=3, of=5),
            'warning',
            'image: stamps',
            '1 of 4 on /image are not later than the one before',
            'only a bag that is looped starts again',
        ),
        (
            with_jumps(every=10, of=50),
            'warning',
            'image: stamps',
            '4 of 49 on /image are not later than the one before',
            'only a bag that is looped starts again',
        ),
        (
            changed(
                'depth',
                messages=[replace(m, stamp_ns=m.stamp_ns - 950_000_000) for m in STREAMS['depth'].messages],
            ),
            'fault',
            'depth with image',
            'the nearest are 50.0 ms',
            'one clock',
        ),
        (
            changed(
                'depth',
                messages=[
                    replace(m, stamp_ns=m.stamp_ns + (m.stamp_ns > 1_400_000_000) * 20_000_000)
                    for m in STREAMS['depth'].messages
                ],
            ),
            'warning',
            'depth with image',
            '5 of 10 stamps',
            'one clock',
        ),
        (with_last('points', stamp_ns=5), 'fault', 'points with label', 'no stamp pairs', 'one clock'),
        (with_last('points', width=424), 'fault', 'points: size', '424x480, label 640x480', 'elements'),
        (with_last('points', frame_id=''), 'fault', 'points: frame', 'empty', 'frame_id'),
        (with_last('depth', frame_id=''), 'fault', 'depth: frame', 'empty', 'frame_id'),
        (with_last('camera_info', width=1280), 'warning', 'camera_info: size', '1280x480', 'belongs'),
        (
            with_last('camera_info', shift=0.0123),
            'warning',
            'camera_info: distortion',
            'unless /image is rectified, points are off by up to 1.2% of its width',
            'image_proc',
        ),
        (replace(WELL, names={0: 'sky', 1: 'road'}), 'fault', 'label_names', 'no name for 255', '255'),
        (replace(WELL, names={2: 'sky', 255: 'x'}), 'fault', 'label_names', 'no name for 0, 1', 'every id'),
        (
            replace(WELL, label_info={0: 'x', 255: 'x'}),
            'fault',
            'label_info',
            'x names several ids',
            'rename',
        ),
        (replace(WELL, names=None), 'fault', 'label_names', 'nothing is latched', 'transient local'),
        (with_latched('label_info', publishers=()), 'fault', 'label_info', 'not published', 'vision_msgs'),
        (
            with_latched('label_info', publishers=(), subscribers=()),
            'warning',
            'label_info',
            'not published',
            'vision_msgs',
        ),
        (replace(WELL, sim_time={NODE: True}), 'fault', 'use_sim_time', 'nobody publishes /clock', '/clock'),
        (replace(WELL, clock=True), 'warning', 'use_sim_time', 'though /clock is published', 'both sides'),
        (replace(WELL, sim_time={'/a': True, '/b': False}), 'fault', 'use_sim_time', 'true of /a', 'alike'),
        (with_last('image', bytes=900_000), 'ok', 'large images', '2 of 2 segments hold them', ''),
        (
            replace(with_last('image', bytes=900_000), segments=(512 << 10, 128 << 20)),
            'warning',
            'large images',
            '1 of 2 segments hold them',
            'Fast DDS profile',
        ),
        (replace(WELL, free_bytes=4096), 'fault', 'shared memory', '4096 bytes free', 'shm-size'),
        (replace(WELL, free_bytes=32 << 20), 'warning', 'shared memory', '32 MiB free', 'shm-size'),
    ],
)
def test_each_fault_is_judged_with_its_value_and_remedy(facts, level, check, value, remedy):
    found = [each for each in judge(facts) if each.check == check and value in each.value]
    assert [each.level for each in found] == [level], list(judge(facts))
    assert remedy in found[0].remedy


@pytest.mark.parametrize(
    'facts',
    [
        changed('depth', publishers=2 * STREAMS['depth'].publishers),
        with_camera(values=CAMERA.values | {'age_ms': '-10.0'}),  # as far as clocks agree
        with_last('camera_info', width=0),  # that does not tell a size
        with_last('camera_info', shift=0.0099),  # as a RealSense has it
        with_camera(
            streams=with_last('camera_info', shift=0.1).cameras[0].streams
            | {'image': replace(STREAMS['image'], topic='/image_rect_color')}
        ),
        with_camera(
            streams=with_last('camera_info', shift=0.1).cameras[0].streams
            | {'points': replace(STREAMS['points'], subscribers=())}
        ),
        replace(WELL, segments=()),  # which small messages need not
    ],
)
def test_what_is_in_order_is_not_blamed(facts):
    assert wrong(facts) == {}


@pytest.mark.parametrize(
    ('fate', 'remedy'),
    [
        (
            'bad: encoding',
            'publish an encoding that README lists for `image`, or remap image to another topic',
        ),
        ('bad: step', 'fix the camera (bad: step)'),
        ('failed', "the node's log has more"),
    ],
)
def test_a_camera_of_which_no_frame_is_segmented_because_all_are_bad_is_a_fault(fate, remedy):
    found = wrong(with_camera(level=1, counted={'received': 9, 'segmented': 0, 'lost': 1, fate: 9}))['frames']
    assert (found.level, found.value) == ('fault', f'9 received, 1 lost, 9 {fate}')
    assert remedy in found.remedy


def test_a_clock_that_begins_at_zero_is_no_missing_stamp():
    first, *others = STREAMS['image'].messages
    facts = changed('image', messages=(replace(first, stamp_ns=0), *others))
    assert 'image: stamps' not in wrong(facts)


@pytest.mark.parametrize('stamp_ns', [0, 5 * 10**9])
def test_stamps_that_do_not_advance_tell_no_age(stamp_ns):
    facts = with_last('image', stamp_ns=stamp_ns)
    without_age = replace(facts.cameras[0], values={'state': 'active'})
    assert 'age' not in {each.check for each in judge(replace(facts, cameras=(without_age,)))}


@pytest.mark.parametrize('age', [{}, {'age_ms': '718.5'}, {'age_ms': '-70.0'}, {'age_ms': '600000.0'}])
def test_without_a_frame_segmented_while_watching_there_is_no_age(age):
    facts = with_camera(values={'state': 'active'} | age, counted={'received': 1, 'segmented': 0})
    assert 'age' not in {each.check for each in judge(facts)}


def test_a_node_that_says_why_it_gives_no_labels_is_not_blamed_for_that_again():
    streams = STREAMS | {'label': replace(STREAMS['label'], messages=())}
    assert set(wrong(with_camera(level=1, message='disabled', streams=streams))) == {'diagnostics'}


def test_a_clock_that_stands_is_named_before_the_ages_it_makes_wrong():
    standing = replace(of_another_clock(DAY_NS), sim_time={NODE: True})
    assert [each.check for each in judge(standing) if each.level == 'fault'] == ['use_sim_time', 'age']


def test_missing_depth_is_a_warning_only_where_somebody_wants_points():
    message = 'no ~/points: nobody publishes /depth or /points'
    wanted = with_camera(level=1, message=message)
    assert wrong(wanted)['diagnostics'].level == 'warning'
    unwanted = STREAMS | {'points': replace(STREAMS['points'], subscribers=(), messages=())}
    assert wrong(with_camera(level=1, message=message, streams=unwanted)) == {}


def test_missing_camera_info_is_a_fault_only_where_somebody_wants_points():
    message = 'no ~/points: /camera_info is missing beside /depth'
    wanted = wrong(with_camera(level=1, message=message))['diagnostics']
    assert (wanted.level, wanted.value) == ('fault', message)
    assert wanted.remedy == 'publish it, or remap camera_info to where it is published'
    unwanted = STREAMS | {'points': replace(STREAMS['points'], subscribers=(), messages=())}
    assert wrong(with_camera(level=1, message=message, streams=unwanted))['diagnostics'].level == 'warning'


@pytest.mark.parametrize(('late_ms', 'helps'), [(30, True), (50, True), (51, False), (9_000_000, False)])
def test_where_depth_is_off_in_time_points_tolerance_is_named_if_it_helps(late_ms, helps):
    images = [replace(m, stamp_ns=m.stamp_ns * 2) for m in STREAMS['image'].messages]  # 200 ms apart
    late = [replace(m, stamp_ns=m.stamp_ns + late_ms * 10**6) for m in images]
    apart = {role: replace(STREAMS[role], messages=m) for role, m in (('image', images), ('depth', late))}
    found = wrong(with_camera(streams=STREAMS | apart))['depth with image']
    assert found.level == 'fault'
    assert found.remedy.startswith('let the camera stamp both alike, by one clock')
    assert found.remedy.endswith(', or ros2 param set /lw_refinenet points_tolerance 0.05') is helps


@pytest.mark.parametrize(
    ('middleware', 'said'),
    [
        ('rmw_cyclonedds_cpp', 'net.core.rmem_max'),
        ('rmw_zenoh_cpp', 'zenoh_large_images.env'),
        ('rmw_connextdds', 'how rmw_connextdds carries large messages'),
    ],
)
def test_another_middleware_is_not_told_of_fast_dds(middleware, said):
    facts = replace(with_camera(counted={'lost': 1}), middleware=middleware, segments=())
    assert said in wrong(facts)['frames'].remedy
    checks = {each.check: each for each in judge(facts)}
    assert 'large images' not in checks
    assert middleware in checks['middleware'].value


@pytest.mark.parametrize(
    ('size', 'said'), [(64 << 10, 'lower their rate'), (1 + (64 << 10), 'Fast DDS profile')]
)
def test_for_lost_images_of_one_datagram_no_profile_is_advised(size, said):
    sized = with_last('image', bytes=size).cameras[0]
    assert said in wrong(replace(WELL, cameras=(replace(sized, counted={'lost': 1}),)))['frames'].remedy


def test_settings_that_are_given_and_not_in_force_are_a_warning():
    values = CAMERA.values | {'large images': 'profile /a.xml not in force: shared memory of 0.5 MiB'}
    assert 'Fast DDS profile' in wrong(with_camera(values=values))['middleware'].remedy


@pytest.fixture
def parameters(tmp_path):
    text = write_layer(assign_types(('sky', 'road'), {}), weights='tiny', node=NODE)
    file = tmp_path / 'layer.yaml'
    file.write_text(text)
    assert yaml.safe_load(text)
    ((_, read),) = read_sections(str(file))
    return read


def test_a_costmap_is_judged_by_what_runs_its_topics_and_its_transforms(parameters):
    label_info = 'vision_msgs/msg/LabelInfo'
    topics = {f'{NODE}/points/{name}': (IMAGE,) for name in ('label', 'confidence')}
    topics |= {f'{NODE}/points': (CLOUD,), f'{NODE}/label_info': (label_info,)}
    parents = {'camera': 'base_link', 'base_link': 'odom', 'odom': 'map'}
    elsewhere = with_last('depth', frame_id='elsewhere')  # which only the node needs to find
    facts = replace(elsewhere, costmaps={COSTMAP: parameters}, topics=topics, parents=parents)
    assert wrong(facts) == {}

    missing = replace(facts, topics=topics | {f'{NODE}/points': (IMAGE,)}, parents={'camera': 'base_link'})
    found = wrong(missing)
    assert found[f'{COSTMAP}: camera.pointcloud_topic'].value == f'{NODE}/points carries {IMAGE}'
    assert found[f'{COSTMAP}: tf'].value == "no transform from 'camera' to 'map'"
    assert wrong(replace(facts, parents=None))[f'{COSTMAP}: tf'].remedy.startswith('install tf2_msgs')
    assert wrong(replace(facts, parents={'camera': 'a', 'a': 'camera'}))[f'{COSTMAP}: tf'].level == 'fault'
    image_mask = parameters | {'semantic_layer.camera.segmentation_topic': f'{NODE}/label'}
    for width in (424, 1280):
        unaligned = replace(with_last('points', width=width), costmaps={COSTMAP: image_mask}, topics=topics)
        assert f'{NODE}/points/label' in wrong(unaligned)[f'{COSTMAP}: camera: size'].remedy
    relative = replace(facts, costmaps={COSTMAP: parameters | {'semantic_layer.camera.labels_topic': 'info'}})
    said = wrong(relative)[f'{COSTMAP}: camera.labels_topic'].value
    assert said == 'nobody publishes /local_costmap/info'


CAMERA_OF_LAYER = 'semantic_layer.camera'


@pytest.mark.parametrize(
    ('changes', 'level', 'check', 'value', 'remedy'),
    [
        (
            {'plugins': ['blur', 'semantic_layer'], 'blur.plugin': 'nav2_costmap_2d::InflationLayer'},
            *('warning', 'semantic_layer: plugins', 'semantic_layer after blur', 'put semantic_layer before'),
        ),
        (
            {'semantic_layer.use_approximate_time_sync': None},
            *('warning', 'semantic_layer: stamps', 'up to 100 ms apart', 'set it to false'),
        ),
        *(
            (
                {f'{CAMERA_OF_LAYER}.free.base_cost': given},
                *('fault', f'{CAMERA_OF_LAYER}.free.base_cost', str(given), remedy),
            )
            for given, remedy in (
                (255, 'write 0 to 254'),
                (-1, 'write 0 to 254'),
                (True, 'write an integer'),
                (1.0, 'write an integer'),
            )
        ),
        *(
            (
                {f'{CAMERA_OF_LAYER}.{name}_obstacle_distance': given for name, given in given.items()},
                *('fault', f'{CAMERA_OF_LAYER}: distances', said, 'max_obstacle_distance the larger'),
            )
            for given, said in (
                ({'min': 5.0, 'max': 5.0}, '5.0 to 5.0 m'),
                ({'min': 6.0, 'max': None}, '6.0 to 5.0 m'),
                ({'min': None, 'max': 0.2}, '0.3 to 0.2 m'),
            )
        ),
        (
            {f'{CAMERA_OF_LAYER}.free.classes': ['road', 'sky']},
            *('warning', f'{CAMERA_OF_LAYER}: class sky', 'in free and ignored', 'free counts'),
        ),
    ],
)
def test_a_parameter_of_the_layer_that_does_not_do_what_it_says_is_named(
    parameters, changes, level, check, value, remedy
):
    given = {name: each for name, each in (parameters | changes).items() if each is not None}
    (found,) = (each for each in check_costmap(given, tuple(NAMES.values())) if each.check == check)
    assert (found.level, value in found.value, remedy in found.remedy) == (level, True, True), found
