# SPDX-License-Identifier: Apache-2.0
"""Fixtures that several tests share: a tiny network on disk, a picture."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from lw_refinenet_ros.node.process.middleware import DISCOVERY
from test.support.ci_skips import pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401
from test.support.tiny_network import write_tiny_weights

# The networks are tiny: PyTorch threads that wait for each other on busy cores take up to ten times as long.
# Set before PyTorch is imported; the processes that tests start inherit it.
os.environ.setdefault('OMP_NUM_THREADS', '1')
# What a robot's shell may hold: who learns of whom, and how log lines look.
for name in (*DISCOVERY, *(each for each in os.environ if each.startswith('RCUTILS_'))):
    os.environ.pop(name, None)
# Processes of pytest-xdist do not hear each other's nodes.
if worker := os.environ.get('PYTEST_XDIST_WORKER'):
    domain = int(os.environ.get('ROS_DOMAIN_ID', os.getppid())) + int(worker.removeprefix('gw'))
    os.environ['ROS_DOMAIN_ID'] = str(1 + domain % 100)
# A shell ignores interrupts for the background jobs of a script, and what the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker('ros'):
        pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')


@pytest.fixture(scope='session')
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network of three classes whose labels differ from place to place."""
    return write_tiny_weights(tmp_path_factory.mktemp('weights') / 'tiny.safetensors', seed=1)


@pytest.fixture(scope='session')
def enlarging_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network with a `least_size` above that of the tests' pictures."""
    path = tmp_path_factory.mktemp('weights') / 'enlarging.safetensors'
    return write_tiny_weights(path, seed=1, least_size=(192, 256))


@pytest.fixture(scope='session')
def segmenter(tiny_weights: Path):
    """What the node runs, in this process."""
    from lw_refinenet_ros import Segmenter

    return Segmenter.load(str(tiny_weights))


@pytest.fixture
def one_thread():
    """One thread for PyTorch: on busy cores, threads that wait for each other take several times longer."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def street() -> np.ndarray:
    """A smooth random picture, uint8 (96, 128, 3)."""
    import cv2

    noise = np.random.default_rng(7).integers(0, 255, (12, 16, 3), np.uint8)
    return cv2.resize(noise, (128, 96), interpolation=cv2.INTER_CUBIC)
