# SPDX-License-Identifier: Apache-2.0
"""How each middleware carries large images: its settings, what of them is in force, what to do about losses.

Imports nothing of ROS: launch files and commands use it where there is none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lw_refinenet_ros.node.process.fast_dds import SMALLEST, VARIABLES, has_other_users, largest, own_segment

__all__ = [
    'DEFAULT',
    'DISCOVERY',
    'SUPER_CLIENT',
    'describe',
    'distribution',
    'environment',
    'hides_others',
    'is_unused',
    'profile_variables',
    'remedy',
    'separation',
]

DEFAULT = 'rmw_fastrtps_cpp'  # of every distribution so far
SERVER, SUPER_CLIENT = 'ROS_DISCOVERY_SERVER', 'ROS_SUPER_CLIENT'  # of Fast DDS
# Variables that say who learns of whom.
DISCOVERY = (SERVER, SUPER_CLIENT, 'ROS_STATIC_PEERS', 'ROS_LOCALHOST_ONLY')
LOCAL, NETWORK = 'fastdds_large_images.xml', 'fastdds_large_images_network.xml'
CYCLONE, ZENOH = 'cyclonedds_large_images.xml', 'zenoh_large_images.env'
OLD = {'humble', 'iron', 'jazzy'}  # with Fast DDS 2
KERNEL = Path('/proc/sys/net/core')
RECEIVE, SEND = 'rmem_max', 'wmem_max'  # the kernel's limits of the buffers of sockets
NOT_FOUND, NOT_IN_FORCE = 'not found', 'not in force'
ENOUGH = 10_000_000  # bytes of a socket's buffer, for a few raw images
NETWORK_BUFFERS = 4 << 20  # bytes, of config/fastdds_large_images_network.xml


def distribution() -> str:
    """Return the name of the ROS distribution that is sourced, or installed from wheels; '' without."""
    if sourced := os.environ.get('ROS_DISTRO'):
        return sourced
    for name in ('jazzy', 'kilted'):
        with suppress(PackageNotFoundError):
            version(f'ros-{name}-rclpy')
            return name
    return ''


def environment(middleware: str, config: Path, *, local: bool = False) -> dict[str, str]:
    """Return the environment variables of a middleware's settings for large images; none for an unknown one.

    Args:
        middleware: identifier of the RMW implementation, as in RMW_IMPLEMENTATION.
        config: the folder of the package's configuration.
        local: whether to stay on this machine, where the middleware's settings decide that.
    """
    if 'fastrtps' in middleware:
        return {profile_variables()[0]: str(config / (LOCAL if local else NETWORK))}
    if 'cyclone' in middleware:
        return {'CYCLONEDDS_URI': f'file://{config / CYCLONE}'}
    if 'zenoh' in middleware:
        lines = (config / ZENOH).read_text().splitlines()
        return dict(line.split('=', 1) for line in lines if line and not line.startswith('#'))
    return {}


def describe(middleware: str, values: Mapping[str, str] = os.environ, *, running: bool = False) -> str:
    """Return in one line which settings for large images are in force.

    Args:
        middleware: identifier of the RMW implementation.
        values: the environment variables.
        running: whether this process has a node: what it really uses can be seen then.
    """
    if 'fastrtps' in middleware:
        return _describe_fast_dds(values, running=running)
    if 'cyclone' in middleware:
        given = values.get('CYCLONEDDS_URI') or 'not set'
        return f'CYCLONEDDS_URI is {given}{_small_buffers(ENOUGH, RECEIVE)}'
    if 'zenoh' in middleware:
        given = values.get('ZENOH_CONFIG_OVERRIDE', '').replace(' ', '')
        on = 'on' if 'shared_memory/enabled=true' in given else 'off, unless a configuration file has it'
        size = values.get('ZENOH_SHM_ALLOC_SIZE', '')
        return f'shared memory {on}; {_mib(int(size)) if size.isdigit() else "default size"}'
    return 'nothing is known about this middleware'


def is_unused(description: str) -> bool:
    """Return whether a description says that settings are given, and not used."""
    return NOT_FOUND in description or NOT_IN_FORCE in description


def hides_others(middleware: str, values: Mapping[str, str] = os.environ) -> bool:
    """Return whether a process learns of topics only after it has subscribed, as with Fast DDS' server."""
    all_told = values.get(SUPER_CLIENT, '').lower() in ('true', '1')
    return 'fastrtps' in middleware and bool(values.get(SERVER)) and not all_told


def separation(middleware: str) -> str:
    """Return what may keep processes of this machine apart, and what to do; '' where nothing does."""
    if 'fastrtps' in middleware and has_other_users():
        return (
            'run both as one user, since users share no memory and another has ROS processes here, or '
            'give both FASTDDS_BUILTIN_TRANSPORTS=UDPv4 and ROS_AUTOMATIC_DISCOVERY_RANGE=SUBNET'
        )
    return ''


def remedy(middleware: str) -> str:
    """Return what to do if images are lost, or do not come, because they are large."""
    if 'fastrtps' in middleware:
        return (
            f'give the processes that publish and receive them the Fast DDS profile config/{LOCAL}, or '
            f'between machines config/{NETWORK}{_small_buffers(NETWORK_BUFFERS, RECEIVE, SEND)}'
        )
    if 'cyclone' in middleware:
        return (
            f'raise net.core.rmem_max to {ENOUGH} and set CYCLONEDDS_URI to config/{CYCLONE} where they are '
            'published and received'
        )
    if 'zenoh' in middleware:
        return f'set the variables of config/{ZENOH} for the router and where they are published and received'
    return f'see how {middleware} carries large messages: its socket buffers or shared memory'


def profile_variables() -> tuple[str, ...]:
    """Return the variables that the Fast DDS of this distribution reads, the preferred one first."""
    return VARIABLES[1:] if distribution() in OLD else VARIABLES


def _describe_fast_dds(values: Mapping[str, str], *, running: bool) -> str:
    variables = profile_variables()
    profile = next((values[name] for name in variables if values.get(name)), '')
    wanted = largest(Path(profile), 'segment_size')
    small = _small_buffers(largest(Path(profile), 'receiveBufferSize', 'sendBufferSize'), RECEIVE, SEND)
    if not profile:
        found = f'no profile ({variables[0]} is not set)'
    elif not Path(profile).is_file():
        found = f'profile {profile} {NOT_FOUND}'
    else:
        found = f'profile {profile}'
    if not running:
        return f'{found}: shared memory of {_mib(wanted)}{small}' if wanted else found
    own = own_segment()
    if own + SMALLEST < wanted:
        return f'{found} {NOT_IN_FORCE}: shared memory of {_mib(own)} instead of {_mib(wanted)}'
    return f'{found}: shared memory of {_mib(own)}{small}'


def _small_buffers(wanted: int, *limits: str) -> str:
    """Tell of socket buffers that the kernel keeps smaller; '' if it does not, or hides its limits."""
    files = [KERNEL / name for name in limits]
    allowed = {file.name: int(file.read_text()) for file in files if file.is_file()}
    few = ' and '.join(f'net.core.{name} ({size})' for name, size in allowed.items() if size < wanted)
    return f'; for large images over UDP, raise {few} to {wanted}' if few else ''


def _mib(size: int) -> str:
    return f'{size / 2**20:.1f} MiB'
