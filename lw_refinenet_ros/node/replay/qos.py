# SPDX-License-Identifier: Apache-2.0
"""Quality of service as bags record it, and as rclpy takes it."""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

__all__ = ['profile_of', 'recorded']

NEVER_S = 2**31 - 1  # and more: how recorders write an infinite time


def profile_of(offered: Sequence[Qos]) -> QoSProfile:
    """Return a QoS profile compatible with every subscriber that matched during recording.

    Of several publishers that differ: reliable and transient local if one is, without deadlines. Nothing
    recorded: reliable, depth 1.
    """
    profile = QoSProfile(depth=max((1, *(each.depth for each in offered))))
    if any(each.history is QosHistory.KEEP_ALL for each in offered):
        profile.history = HistoryPolicy.KEEP_ALL
    if offered and all(each.reliability is QosReliability.BEST_EFFORT for each in offered):
        profile.reliability = ReliabilityPolicy.BEST_EFFORT
    if any(each.durability is QosDurability.TRANSIENT_LOCAL for each in offered):
        profile.durability = DurabilityPolicy.TRANSIENT_LOCAL
    if len({(each.deadline, each.lifespan, each.liveliness) for each in offered}) == 1:
        first = offered[0]
        for name in ('deadline', 'lifespan', 'liveliness_lease_duration'):
            time = getattr(first, name)
            if 0 < time.sec < NEVER_S or (not time.sec and time.nsec):
                setattr(profile, name, Duration(seconds=time.sec, nanoseconds=time.nsec))
        if first.liveliness is QosLiveliness.MANUAL_BY_TOPIC:
            profile.liveliness = LivelinessPolicy.MANUAL_BY_TOPIC
    return profile


def recorded(profile: QoSProfile) -> Qos:
    """Return what a publisher offers, as a bag records it."""

    def time(duration: Duration) -> QosTime:
        return QosTime(*divmod(duration.nanoseconds, 1_000_000_000))

    return Qos(
        QosHistory[profile.history.name],
        profile.depth,
        QosReliability[profile.reliability.name],
        QosDurability[profile.durability.name],
        time(profile.deadline),
        time(profile.lifespan),
        QosLiveliness[profile.liveliness.name],
        time(profile.liveliness_lease_duration),
        profile.avoid_ros_namespace_conventions,
    )
