# SPDX-License-Identifier: Apache-2.0
"""What is written about a bag's topics: names of types, quality of service, metadata.yaml."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from lw_refinenet_ros.bounded_yaml import parse_yaml, read_yaml
from lw_refinenet_ros.sources.limits import MAX_METADATA_BYTES

__all__ = ['METADATA', 'Metadata', 'normal_type', 'offered_qos', 'read_metadata']

METADATA = 'metadata.yaml'

_Policy = TypeVar('_Policy', bound=Enum)


class Metadata(NamedTuple):
    """The part of metadata.yaml that is not in the files."""

    files: list[str]  # their names, in the order of the recording
    types: dict[str, str]  # of the topics, by name


def normal_type(name: str) -> str:
    """Return a type's name as ROS 2 writes it: 'sensor_msgs/Image' is 'sensor_msgs/msg/Image'."""
    package, _, kind = name.rpartition('/')
    return f'{package.removesuffix("/msg")}/msg/{kind}' if package else name


def read_metadata(folder: Path) -> Metadata:
    """Read a bag's metadata.yaml, of any version.

    Raises:
        ValueError: it is damaged, too large, or not of a bag.
        OSError: it cannot be read.
    """
    path = folder / METADATA
    content = read_yaml(path, MAX_METADATA_BYTES)
    try:
        bag = content['rosbag2_bagfile_information']
        # Older recorders wrote the folder too.
        files = [str(name).rpartition('/')[2] for name in bag['relative_file_paths']]
        topics = [each['topic_metadata'] for each in bag['topics_with_message_count']]
        types = {str(topic['name']): normal_type(str(topic['type'])) for topic in topics}
    except (TypeError, LookupError) as error:
        raise ValueError(f'{path}: it is not the metadata of a bag') from error
    return Metadata(files, types)


def offered_qos(text: object) -> tuple[Qos, ...]:
    """Read the quality of service that publishers offered: YAML, or what was YAML.

    Every version of rosbag2 writes it in another way, other tools leave it empty or in part, people edit it.
    Nothing else depends on it: a profile that is not understood is left out, as one that was not recorded.
    """
    try:
        profiles = parse_yaml(text) if isinstance(text, (str, bytes)) and text else text
    except ValueError:
        return ()
    if not isinstance(profiles, list):
        return ()
    return tuple(qos for profile in profiles if (qos := _qos(profile)) is not None)


def _qos(profile: Any) -> Qos | None:
    try:
        depth = profile['depth']
        if not (isinstance(depth, int) and 0 <= depth < 2**31):
            return None
        return Qos(
            _policy(QosHistory, profile['history']),
            depth,
            _policy(QosReliability, profile['reliability']),
            _policy(QosDurability, profile['durability']),
            _time(profile['deadline']),
            _time(profile['lifespan']),
            _policy(QosLiveliness, profile['liveliness']),
            _time(profile['liveliness_lease_duration']),
            bool(profile['avoid_ros_namespace_conventions']),
        )
    except (TypeError, LookupError, ValueError):
        return None


def _policy(kind: type[_Policy], value: object) -> _Policy:
    """Return a policy by its name or number; UNKNOWN if there is none such."""
    if isinstance(value, str) and value.upper() in kind.__members__:
        return kind[value.upper()]
    return next((policy for policy in kind if policy.value == value), kind['UNKNOWN'])


def _time(duration: Any) -> QosTime:
    """Return a duration; of what is negative or too long, one that never ends."""
    sec, nsec = int(duration['sec']), int(duration['nsec'])
    return QosTime(sec, nsec) if 0 <= sec < 2**63 and 0 <= nsec < 10**9 else QosTime(2**31 - 1, 0)
