# SPDX-License-Identifier: Apache-2.0
"""Judges the facts about a running system."""

from __future__ import annotations

from collections.abc import Iterator

from lw_refinenet_ros.labels import UNLABELLED
from lw_refinenet_ros.node.doctor.facts import Camera, Facts, Stream
from lw_refinenet_ros.node.doctor.finding import FAULT, WARNING, Finding, fault, ok, warning
from lw_refinenet_ros.node.doctor.judge_nav2 import judge_costmaps
from lw_refinenet_ros.node.doctor.judge_stamps import CLOCKS, judge_stamps
from lw_refinenet_ros.node.process.middleware import is_unused, remedy

__all__ = ['judge']

IMAGE, INFO, CLOUD = (f'sensor_msgs/msg/{kind}' for kind in ('Image', 'CameraInfo', 'PointCloud2'))
TYPES = {
    **dict.fromkeys(('image', 'label', 'confidence', 'depth'), IMAGE),
    **dict.fromkeys(('points', 'cloud'), CLOUD),
    'camera_info': INFO,
}
COMPRESSED_IMAGE, COMPRESSED = 'sensor_msgs/msg/CompressedImage', '/compressed'
INPUTS = ('image', 'depth', 'camera_info', 'cloud')
SEGMENT = 512 << 10  # bytes; Fast DDS' default, which no larger message passes through whole
DATAGRAM = 64 << 10  # bytes; what is larger travels in parts, or as shared memory
TOLERABLE_NS = 50_000_000  # between the stamps of two sensors of which neither triggers the other
SHIFTED = 0.01  # of the image's width; less moves no point out of its cell of a costmap
LIGHTER = (
    'images so small need no profile: lower their rate or the load of the CPU; by radio, publish reliable'
)
OTHER_ENCODING = 'publish an encoding that README lists for `image`, or remap image to another topic'
NO_DEPTH, NO_INFO = 'no ~/points: nobody publishes', ' is missing beside '  # as the node says it


def judge(facts: Facts) -> Iterator[Finding]:
    """Judge everything that was seen, the node first."""
    if not facts.cameras:
        remedy = 'start it, with the ROS_DOMAIN_ID and RMW implementation of this terminal'
        if facts.running:
            remedy = f'start it, or examine another by --node: {", ".join(facts.running)}'
        elif facts.separation:
            remedy = f'{remedy}; {facts.separation}'
        yield fault('node', f'{facts.node} publishes no diagnostics', remedy)
        return
    values = facts.cameras[0].values
    yield _state(facts.node, values.get('state', ''))
    if 'engine' in values:
        yield ok('engine', f'{values["engine"]}; weights {values.get("weights", "")}')
    yield from _judge_clocks(facts)  # first, since a wrong clock also shows as a wrong age
    for camera in facts.cameras:
        for finding in _judge_camera(camera, facts):
            check = f'{camera.name}: {finding.check}' if camera.name else finding.check
            yield Finding(finding.level, check, finding.value, finding.remedy)
    yield from _judge_names(facts)
    yield from _judge_memory(facts)
    yield from judge_costmaps(facts)


def _state(node: str, state: str) -> Finding:
    if state == 'active':
        return ok('node', f'{node} is active')
    if state == 'warming up':
        return warning('node', f'{node} is warming up', 'wait; a large network takes a minute')
    remedy = 'activate it: ros2 lifecycle set, or autostart: true; its log says why it did not'
    return fault('node', f'{node} is {state or "in an unknown state"}', remedy)


def _judge_camera(camera: Camera, facts: Facts) -> Iterator[Finding]:
    points = camera.streams.get('points')
    wanted = bool(points and points.subscribers)
    if camera.message.startswith(NO_DEPTH) and not wanted:
        yield ok('diagnostics', f'{camera.message}; nobody but the doctor subscribes')
    elif NO_INFO in camera.message and wanted:
        yield fault(
            'diagnostics', camera.message, 'publish it, or remap camera_info to where it is published'
        )
    elif camera.level:
        level = WARNING if camera.level == 1 else FAULT
        yield Finding(level, 'diagnostics', camera.message, "fix what it names; the node's log has more")
    else:
        yield ok('diagnostics', camera.message)
    for role, stream in camera.streams.items():
        yield from _judge_endpoints(role, stream, facts)
    yield from _judge_flow(camera, facts)
    yield from judge_stamps(camera, facts)
    yield from _judge_pairs(camera, facts)
    yield from _judge_sizes(camera)
    yield from _judge_rectification(camera)


def _judge_endpoints(role: str, stream: Stream, facts: Facts) -> Iterator[Finding]:
    """Judge who publishes and subscribes: types and qualities of service."""
    expected = _expected_type(role, stream)
    if role == 'image' and not stream.publishers:
        raw = stream.topic.removesuffix(COMPRESSED)
        transport, twin = ('compressed', raw + COMPRESSED) if raw == stream.topic else ('raw', raw)
        depths = (camera.streams.get('depth') for camera in facts.cameras)
        taken = {stream.topic, *(depth.topic for depth in depths if depth)}
        images = [
            name
            for name, types in facts.topics.items()
            if IMAGE in types and name not in taken and not name.startswith(f'{facts.node}/')
        ]
        there = ', '.join(images) or 'no image topic'
        remedy = f'start the camera, or remap image; there is {there}'
        if {IMAGE, COMPRESSED_IMAGE} & {*facts.topics.get(twin, ())}:
            remedy = f'set image_transport: {transport}, since there is {twin}'
        yield fault(role, f'nobody publishes {stream.topic}', remedy)
    if role == 'image' and len(stream.publishers) > 1:
        who = ', '.join(publisher.node for publisher in stream.publishers)
        yield warning(role, f'{stream.topic} has several publishers: {who}', 'leave one')
    for end in (*stream.publishers, *stream.subscribers):
        if expected and end.type != expected:
            yield fault(f'{role}: type', f'{end.node}: {end.type} on {stream.topic}', f'use {expected}')
    yield from judge_qualities(role, stream)


def _expected_type(role: str, stream: Stream) -> str | None:
    compressed = role == 'image' and stream.topic.endswith(COMPRESSED)
    return COMPRESSED_IMAGE if compressed else TYPES.get(role)


def judge_qualities(check: str, stream: Stream) -> Iterator[Finding]:
    """Judge whether every publisher of a topic serves every subscriber."""
    served = True
    for publisher in stream.publishers:
        for subscriber in stream.subscribers:
            pair = f'{publisher.node} to {subscriber.node} on {stream.topic}'
            if subscriber.reliable and not publisher.reliable:
                served = False
                yield fault(
                    f'{check}: QoS', f'{pair}: reliable from best effort', 'subscribe with best effort'
                )
            if subscriber.latched and not publisher.latched:
                served = False
                yield fault(
                    f'{check}: QoS',
                    f'{pair}: transient local from volatile',
                    'subscribe with volatile durability',
                )
    if served and stream.publishers and stream.subscribers:
        kinds = {'reliable' if publisher.reliable else 'best effort' for publisher in stream.publishers}
        yield ok(f'{check}: QoS', f'{stream.topic}, {" and ".join(sorted(kinds))}')


def _judge_flow(camera: Camera, facts: Facts) -> Iterator[Finding]:
    """Judge rates and losses."""
    for role, stream in camera.streams.items():
        if stream.messages:
            rate = len(stream.messages) / stream.seconds
            yield ok(f'{role}: rate', f'{rate:.1f} Hz on {stream.topic}')
        elif role in INPUTS and any(p.type == _expected_type(role, stream) for p in stream.publishers):
            yield fault(f'{role}: rate', f'nothing came on {stream.topic}', remedy(facts.middleware))
    image, label = camera.streams.get('image'), camera.streams.get('label')
    if image and label and image.messages and not label.messages and not camera.level:
        yield fault('label: rate', f'no label though images come: {camera.message}', "see the node's log")
    counted = camera.counted
    shown = ', '.join(f'{count} {fate}' for fate, count in counted.items() if count) or 'none'
    bad = [fate for fate, count in counted.items() if count and fate.startswith(('bad', 'failed'))]
    none_is_good = bool(bad) and not counted.get('segmented')
    if counted.get('lost') and not none_is_good:
        small = image is not None and image.last is not None and image.last.bytes <= DATAGRAM
        yield warning('frames', shown, LIGHTER if small else remedy(facts.middleware))
    elif bad:
        advice = OTHER_ENCODING if 'bad: encoding' in bad else f'fix the camera ({bad[0]})'
        serious = fault if none_is_good else warning
        yield serious('frames', shown, f"{advice}; the node's log has more")
    else:
        yield ok('frames', shown)


def _judge_pairs(camera: Camera, facts: Facts) -> Iterator[Finding]:
    """Judge whether stamps pair: depth with images as the node pairs them, results exactly."""
    streams = camera.streams
    source = _source_of_points(camera)
    for one, other, tolerance_ns in (
        ('depth', 'image', facts.tolerance_ns),
        ('cloud', 'image', facts.tolerance_ns),
        ('confidence', 'label', 0),
        ('points', source, 0),
    ):
        if one not in streams or other not in streams:
            continue
        stamps, others = streams[one].stamps_ns, streams[other].stamps_ns
        if not stamps or not others:
            continue
        gaps = [min(abs(stamp - each) for each in others) for stamp in stamps]
        paired = sum(gap <= tolerance_ns for gap in gaps)
        possible = min(len(stamps), len(others))
        value, remedy = f'{paired} of {possible} stamps', 'let the camera stamp both alike, by one clock'
        if other == 'image' and sum(gap <= TOLERABLE_NS for gap in gaps) > possible / 2:
            remedy += f', or ros2 param set {facts.node} points_tolerance {TOLERABLE_NS / 1e9}'
        if paired > possible / 2:
            yield ok(f'{one} with {other}', value)
        elif paired:
            yield warning(f'{one} with {other}', value, remedy)
        else:
            value = f'no stamp pairs; the nearest are {min(gaps) / 1e6:.1f} ms apart'
            yield fault(f'{one} with {other}', value, remedy)


def _source_of_points(camera: Camera) -> str:
    """Return the role whose size and stamps the points have: `label`, or what the image labels."""
    last = {role: stream.last for role, stream in camera.streams.items()}
    points, label = last.get('points'), last.get('label')
    for role in ('depth', 'cloud'):
        message = last.get(role)
        if message and points and label and points.elements == message.elements != label.elements:
            return role
    return 'label'


def _judge_sizes(camera: Camera) -> Iterator[Finding]:
    """Judge sizes and frames of what must fit together."""
    last = {role: stream.last for role, stream in camera.streams.items()}
    label = last.get('label')
    if (source := _source_of_points(camera)) != 'label':
        yield ok('points: size', f'that of the {source}, as ~/points/label has it')
    for role in ('image', 'confidence', *(['points'] if source == 'label' else [])):
        message = last.get(role)
        if label is None or message is None:
            continue
        value = f'{message.width}x{message.height}, label {label.width}x{label.height}'
        if message.elements == label.elements:
            yield ok(f'{role}: size', value)
        else:
            yield fault(f'{role}: size', value, 'they must have as many elements: is a topic remapped?')
    for role, message in last.items():
        if message is not None and role in ('image', 'points', 'depth') and not message.frame_id:
            yield fault(f'{role}: frame', 'frame_id is empty', "set the camera driver's frame_id")
    depth, info, image = (last.get(role) for role in ('depth', 'camera_info', 'image'))
    if depth is not None and image is not None:
        value = f'{depth.width}x{depth.height} in {depth.frame_id!r}, image {image.width}x{image.height} in '
        yield ok('depth: size', f'{value}{image.frame_id!r}')
    if info is None or depth is None or not info.elements:
        return
    sizes = {(each.height, each.width) for each in (depth, image) if each is not None}
    if (info.height, info.width) not in sizes:
        value = f'camera_info of {info.width}x{info.height}, depth {depth.width}x{depth.height}'
        yield warning('camera_info: size', value, 'publish the camera_info that belongs to the depth')


def _judge_rectification(camera: Camera) -> Iterator[Finding]:
    """Judge whether points may be labelled by images that are not rectified, as only their topic tells."""
    image, info = camera.streams.get('image'), camera.streams.get('camera_info')
    points = camera.streams.get('points')
    if not (image and info and info.last and points and points.subscribers) or 'rect' in image.topic:
        return
    if info.last.shift > SHIFTED:
        value = (
            f'unless {image.topic} is rectified, points are off by up to {info.last.shift:.1%} of its width'
        )
        yield warning(
            'camera_info: distortion', value, 'rectify it (image_proc), and remap image to the result'
        )


def _judge_names(facts: Facts) -> Iterator[Finding]:
    """Judge what names the ids: every one, the unlabelled too, for subscribers that come late."""
    for topic, names in (('label_names', facts.names), ('label_info', facts.label_info)):
        stream = facts.latched.get(topic)
        if stream is None:
            continue
        if not stream.publishers:
            if topic == 'label_info':
                serious = fault if facts.costmaps or stream.subscribers else warning
                yield serious(topic, 'not published', 'install vision_msgs beside the node; Nav2 needs it')
            continue
        yield from judge_qualities(topic, stream)
        if names is None:
            if topic == 'label_names' or stream.publishers[0].latched is False:
                yield fault(topic, 'nothing is latched', 'publish it reliable and transient local')
            continue
        missing = sorted(
            {*range(max(names.keys() - {UNLABELLED}, default=-1) + 1), UNLABELLED} - names.keys()
        )
        twice = sorted({name for name in names.values() if list(names.values()).count(name) > 1})
        if missing:
            yield fault(topic, f'no name for {", ".join(map(str, missing))}', 'name every id, 255 included')
        elif twice:
            yield fault(topic, f'{", ".join(twice)} names several ids', 'rename the class in the weights')
        else:
            yield ok(topic, f'{len(names)} names, 255 is {names[UNLABELLED]!r}')


def _judge_clocks(facts: Facts) -> Iterator[Finding]:
    simulated = {node for node, value in facts.sim_time.items() if value}
    real = facts.sim_time.keys() - simulated
    if simulated and real:
        yield fault(
            'use_sim_time',
            f'true of {", ".join(sorted(simulated))}, false of {", ".join(sorted(real))}',
            CLOCKS,
        )
    elif simulated and not facts.clock:
        yield fault('use_sim_time', 'true, but nobody publishes /clock', CLOCKS)
    elif facts.clock and not simulated:
        yield warning('use_sim_time', 'false, though /clock is published', CLOCKS)
    else:
        yield ok('use_sim_time', f'{bool(simulated)} of all'.lower())


def _judge_memory(facts: Facts) -> Iterator[Finding]:
    """Judge how large images travel."""
    streams = [stream for camera in facts.cameras for stream in camera.streams.values()]
    largest = max((message.bytes for stream in streams for message in stream.messages), default=0)
    setting = facts.cameras[0].values.get('large images', 'the node does not say what is set')
    value = f'{facts.middleware}; {setting}'
    if is_unused(setting):
        yield warning('middleware', value, remedy(facts.middleware))
    else:
        yield ok('middleware', value)
    if 'fastrtps' not in facts.middleware:
        return
    fitting = sum(size > largest for size in facts.segments)
    value = f'messages up to {largest / 1e6:.1f} MB, {fitting} of {len(facts.segments)} segments hold them'
    if largest > SEGMENT and fitting < 2:
        yield warning('large images', value, remedy(facts.middleware))
    else:
        yield ok('large images', value)
    if facts.free_bytes < SEGMENT:
        yield fault(
            'shared memory', f'{facts.free_bytes} bytes free', 'delete what fills it, or --shm-size=512m'
        )
    elif facts.free_bytes < 64 << 20:
        value = f'{facts.free_bytes / 2**20:.0f} MiB free'
        yield warning('shared memory', value, 'give more: docker run --shm-size=512m')
    else:
        yield ok('shared memory', f'{facts.free_bytes / 2**20:.0f} MiB free')
