# SPDX-License-Identifier: Apache-2.0
"""Two hosts on one machine: network namespaces, and a link between them with a rate, losses and a delay.

Needs root. Rates are token buckets, losses a BPF filter that draws a random number per packet; a link with
a delay is a process that carries packets from one TUN device to the other.
"""

import ctypes
import fcntl
import os
import random
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

HOSTS = ('lw_camera', 'lw_node')
DEVICE = 'lan0'
SHARED_MEMORY = Path('/dev/shm')
QUEUE = '1500kb'  # 1000 packets, as Linux has by default
CLONE_NEWNET, TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x40000000, 0x400454CA, 0x0001, 0x1000
MTU = 1500
RANDOM = 0xFFFFF000 + 56  # classic BPF's address of a random number
DROP, GO_ON = 2, 0xFFFFFFFF


class Link(NamedTuple):
    """A link, the same in both directions: Mbit/s, the fraction of packets lost, milliseconds."""

    name: str
    mbit: int
    loss: float = 0.0
    delay_ms: float = 0.0
    jitter_ms: float = 0.0


def run(*command: str) -> None:
    """Run a command; raise with what it printed if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f'{" ".join(command)}: {done.stderr.strip()}')


@contextmanager
def hosts(link: Link) -> Iterator[None]:
    """Make the two hosts and their link; remove them at the end."""
    relay = None
    try:
        for host in HOSTS:
            run('ip', 'netns', 'add', host)
            (SHARED_MEMORY / host).mkdir()
            run('ip', '-n', host, 'link', 'set', 'lo', 'up')
        if link.delay_ms:
            relay = _start_relay(link)
        else:
            peer = ('peer', 'name', DEVICE, 'netns', HOSTS[1])
            run('ip', '-n', HOSTS[0], 'link', 'add', DEVICE, 'type', 'veth', *peer)
        for number, host in enumerate(HOSTS, 1):
            run('ip', '-n', host, 'addr', 'add', f'10.99.0.{number}/24', 'dev', DEVICE)
            run('ip', '-n', host, 'link', 'set', DEVICE, 'mtu', str(MTU), 'up')
            run('ip', '-n', host, 'route', 'add', '224.0.0.0/4', 'dev', DEVICE)
            tc = ('ip', 'netns', 'exec', host, 'tc')
            bucket = ('rate', f'{link.mbit}mbit', 'burst', '64kb', 'limit', QUEUE)
            run(*tc, 'qdisc', 'add', 'dev', DEVICE, 'root', 'tbf', *bucket)
            if link.loss:
                run(*tc, 'qdisc', 'add', 'dev', DEVICE, 'clsact')
                filter_ = ('bpf', 'da', 'bytecode', _lose(link.loss))
                run(*tc, 'filter', 'add', 'dev', DEVICE, 'ingress', *filter_)
        yield
    finally:
        if relay is not None:
            relay.kill()
            relay.wait()
        for host in HOSTS:
            subprocess.run(['ip', 'netns', 'del', host], capture_output=True, check=False)
            shutil.rmtree(SHARED_MEMORY / host, ignore_errors=True)


def on(host: str, *command: str) -> list[str]:
    """Return the command that runs another one on a host, which has shared memory of its own."""
    own = f'mount --bind {SHARED_MEMORY / host} {SHARED_MEMORY} && exec "$@"'
    return ['ip', 'netns', 'exec', host, 'sh', '-c', own, 'sh', *command]


def _lose(fraction: float) -> str:
    """Return classic BPF, as tc takes it, that drops a fraction of the packets."""
    program = [(0x20, 0, 0, RANDOM), (0x25, 1, 0, round(fraction * 2**32)), (6, 0, 0, DROP), (6, 0, 0, GO_ON)]
    return ','.join([str(len(program)), *(' '.join(map(str, line)) for line in program)])


# The link with a delay: a process of its own


def _start_relay(link: Link) -> subprocess.Popen:
    program = f'from benchmark.network_link import relay; relay({link.delay_ms}, {link.jitter_ms})'
    process = subprocess.Popen([sys.executable, '-c', program], stdout=subprocess.PIPE, text=True)
    process.stdout.readline()  # the devices are there
    return process


def relay(delay_ms: float, jitter_ms: float) -> None:
    """Make a TUN device on each host, and carry packets between them, late but in order."""
    ends = [_tun(host) for host in HOSTS]
    print('ready', flush=True)
    for source, target in (ends, ends[::-1]):
        packets: deque[tuple[float, bytes]] = deque()
        arrived = threading.Semaphore(0)
        threading.Thread(target=_deliver, args=(packets, arrived, target), daemon=True).start()
        threading.Thread(
            target=_accept, args=(packets, arrived, source, delay_ms / 1e3, jitter_ms / 1e3), daemon=True
        ).start()
    threading.Event().wait()


def _accept(
    packets: deque, arrived: threading.Semaphore, source: int, delay_s: float, jitter_s: float
) -> None:
    while True:
        packet = os.read(source, MTU)
        packets.append((time.monotonic() + random.uniform(delay_s - jitter_s, delay_s + jitter_s), packet))
        arrived.release()


def _deliver(packets: deque, arrived: threading.Semaphore, target: int) -> None:
    while True:
        arrived.acquire()
        due, packet = packets.popleft()
        if (left := due - time.monotonic()) > 0:
            time.sleep(left)
        with suppress(OSError):  # the device is not up yet
            os.write(target, packet)


def _tun(host: str) -> int:
    """Make a TUN device on a host; return its file descriptor."""
    with Path(f'/run/netns/{host}').open() as namespace, Path('/proc/self/ns/net').open() as own:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f'network namespace {host}')
        device = os.open('/dev/net/tun', os.O_RDWR)
        fcntl.ioctl(device, TUNSETIFF, struct.pack('16sH22x', DEVICE.encode(), IFF_TUN | IFF_NO_PI))
        libc.setns(own.fileno(), CLONE_NEWNET)
    return device
