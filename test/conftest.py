# SPDX-License-Identifier: Apache-2.0
"""What several tests share: a tiny network on disk."""

import signal
from pathlib import Path

import numpy as np
import pytest
from ci_skips import pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401

# A shell ignores interrupts for the background jobs of a script, and what the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


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


def write_tiny_weights(
    path: Path,
    *,
    seed: int,
    names: tuple[str, ...] = ('sky', 'road', 'car'),
    least_size: tuple[int, int] = (0, 0),
) -> Path:
    import torch

    from lw_refinenet_ros.labels import LabelSet
    from lw_refinenet_ros.model.network import build_model
    from lw_refinenet_ros.model.weights import Card, save_model

    torch.manual_seed(seed)
    architecture = 'lw_refinenet_efficientnet_lite0'
    model = build_model(architecture, len(names), width=8, least_size=least_size)
    # Statistics of pictures, and no class that wins everywhere
    pictures = torch.nn.functional.interpolate(torch.randn(4, 3, 12, 16), scale_factor=8, mode='bilinear')
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        model.train()(pictures)
        model.decoder.classifier.bias -= model.eval()(pictures).mean((0, 2, 3))
    labels = LabelSet('tiny', names, tuple((80 * i, 40, 200 - 60 * i) for i in range(len(names))))
    dials = {'least_size': list(least_size)} if any(least_size) else {}
    save_model(path, model, Card(architecture, 8, labels, (0.5,) * 3, (0.5,) * 3, dials=dials))
    return path


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
