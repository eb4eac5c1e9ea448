# SPDX-License-Identifier: Apache-2.0
"""Judges how Nav2's semantic segmentation layer and the node fit together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lw_refinenet_ros.node.doctor.facts import Facts
from lw_refinenet_ros.node.doctor.finding import Finding, fault, ok, warning
from lw_refinenet_ros.node.doctor.nav2_parameters import Source, check_costmap, layers, sources
from lw_refinenet_ros.one_line import unknown

__all__ = ['judge_costmaps']

TOPICS = {
    'segmentation_topic': 'sensor_msgs/msg/Image',
    'confidence_topic': 'sensor_msgs/msg/Image',
    'pointcloud_topic': 'sensor_msgs/msg/PointCloud2',
    'labels_topic': 'vision_msgs/msg/LabelInfo',
}


def judge_costmaps(facts: Facts) -> Iterator[Finding]:
    """Judge every costmap that has a semantic layer."""
    for node, parameters in facts.costmaps.items():
        names = tuple((facts.names or facts.label_info or {}).values())
        for finding in check_costmap(parameters, names):
            yield replace(finding, check=f'{node}: {finding.check}')
        for layer in layers(parameters):
            for name, source in sources(parameters, layer).items():
                for topic, kind in TOPICS.items():
                    if source.get(topic):
                        yield _judge_topic(f'{node}: {name}.{topic}', node, str(source[topic]), kind, facts)
                yield from _judge_sizes(f'{node}: {name}: size', source, facts)
        yield from _judge_frames(node, str(parameters.get('global_frame', 'map')), facts)


def _judge_topic(check: str, node: str, topic: str, kind: str, facts: Facts) -> Finding:
    resolved = topic if topic.startswith('/') else f'{node.rpartition("/")[0]}/{topic}'
    published = [name for name, types in facts.topics.items() if kind in types]
    if resolved not in facts.topics:
        remedy = unknown('topic', resolved, published) if published else f'start a publisher of {kind}'
        return fault(check, f'nobody publishes {resolved}', remedy)
    if resolved not in published:
        carried = ', '.join(facts.topics[resolved])
        return fault(check, f'{resolved} carries {carried}', f'name a topic of {kind}')
    return ok(check, resolved)


def _judge_sizes(check: str, source: Source, facts: Facts) -> Iterator[Finding]:
    """Judge whether the mask has an element for each point, where both are outputs that were watched."""
    streams = {stream.topic: stream for camera in facts.cameras for stream in camera.streams.values()}
    topics = source.get('segmentation_topic'), source.get('pointcloud_topic')
    mask, cloud = (streams[topic].last if topic in streams else None for topic in topics)
    if mask is not None and cloud is not None and mask.elements != cloud.elements:
        value = f'mask {mask.width}x{mask.height}, cloud {cloud.width}x{cloud.height}'
        yield fault(check, value, f'set segmentation_topic to {topics[1]}/label, and confidence_topic alike')


def _judge_frames(node: str, target: str, facts: Facts) -> Iterator[Finding]:
    """Judge whether tf connects the clouds with the costmap's frame."""
    clouds = {
        stream.last.frame_id
        for camera in facts.cameras
        for role, stream in camera.streams.items()
        if role == 'points' and stream.last is not None
    }
    for frame in sorted(clouds):
        check = f'{node}: tf'
        if facts.parents is None:
            yield warning(check, 'not examined', 'install tf2_msgs where the doctor runs')
        elif _root(frame, facts) != _root(target, facts):
            yield fault(
                check,
                f'no transform from {frame!r} to {target!r}',
                'publish it: ros2 run tf2_tools view_frames',
            )
        else:
            yield ok(check, f'{frame!r} to {target!r}')


def _root(frame: str, facts: Facts) -> str:
    """Return the frame above all others that a frame hangs on."""
    seen = {frame}
    while (parent := (facts.parents or {}).get(frame)) is not None and parent not in seen:
        seen.add(parent)
        frame = parent
    return frame
