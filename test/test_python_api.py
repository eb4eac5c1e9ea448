# SPDX-License-Identifier: Apache-2.0
"""The Python contract: exports, the paths and images that are taken, and how others are refused."""

import importlib
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lw_refinenet_ros
from lw_refinenet_ros import EngineError, Segmenter, WeightsError
from lw_refinenet_ros.class_groups import ClassGroups
from lw_refinenet_ros.model import build_model, load_model
from lw_refinenet_ros.sources import open_source


class PathLike:
    """A path that is neither text nor a pathlib.Path."""

    def __init__(self, path):
        self.path = str(path)

    def __fspath__(self):
        return self.path


@pytest.mark.parametrize('package', ['', '.model', '.inference', '.sources'])
def test_what_a_package_exports_is_there(package):
    module = importlib.import_module(f'lw_refinenet_ros{package}')
    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match='nothing_of_that_name'):
        _ = module.nothing_of_that_name


def test_types_are_shipped():
    assert (Path(lw_refinenet_ros.__file__).parent / 'py.typed').is_file()


@pytest.mark.parametrize('package', ['', '.model', '.sources'])
def test_importing_a_package_alone_loads_no_network_library(package):
    code = f'import sys, lw_refinenet_ros{package}; print(*sys.modules)'
    loaded = subprocess.check_output(
        [sys.executable, '-c', code], text=True, cwd=Path(lw_refinenet_ros.__file__).parents[1]
    )
    assert not {'torch', 'cv2', 'openvino', 'rclpy'} & set(loaded.split())


@pytest.mark.parametrize('kind', [str, Path, PathLike])
def test_every_kind_of_path_is_taken(kind, tiny_weights, tmp_path, street):
    assert Segmenter.load(kind(tiny_weights), engine='torch').labels.names == ('sky', 'road', 'car')
    network, card = load_model(kind(tiny_weights))
    assert not network.training
    assert card.num_classes == 3
    Image.fromarray(street).save(tmp_path / 'a.png')
    for source in (tmp_path, tmp_path / 'a.png'):
        with open_source(kind(source)) as frames:
            assert len(list(frames)) == 1


def test_a_built_network_gives_logits_at_stride_4():
    logits = build_model('lw_refinenet_mobilenet_v2', 5, width=8).eval()(torch.zeros(2, 3, 64, 96))
    assert logits.shape == (2, 5, 16, 24)


def test_weights_that_are_not_there_are_a_weights_error_that_names_those_that_are():
    with pytest.raises(WeightsError, match="'nosuch': choose one of camvid, camvid_mobilenet_v2"):
        Segmenter.load('nosuch')
    with pytest.raises(WeightsError, match='nosuch'):
        Segmenter.load(Path('nosuch.safetensors'))


def test_a_fraction_of_a_thread_is_refused(tiny_weights):
    with pytest.raises(EngineError, match=r'threads=2\.5 must be a whole number'):
        Segmenter.load(tiny_weights, threads=2.5)


@pytest.fixture(scope='module')
def torch_segmenter(tiny_weights):
    return Segmenter.load(tiny_weights, engine='torch')


def test_a_segmenter_names_its_network_its_classes_and_its_engine(torch_segmenter):
    assert 'lw_refinenet_efficientnet_lite0, tiny, PyTorch' in repr(torch_segmenter)


@pytest.mark.parametrize('order', ['rgb', 'bgr'])
def test_grey_alpha_and_pillow_images_are_taken_as_the_colours_they_show(torch_segmenter, street, order):
    def segment(image):
        return torch_segmenter.segment(image, order=order).label

    grey = street[..., 1]
    np.testing.assert_array_equal(segment(grey), segment(np.dstack([grey] * 3)))
    np.testing.assert_array_equal(segment(grey[..., None]), segment(np.dstack([grey] * 3)))
    ordered = street if order == 'rgb' else street[..., ::-1]
    np.testing.assert_array_equal(segment(np.dstack([ordered, 255 - grey])), segment(ordered))
    np.testing.assert_array_equal(segment(Image.fromarray(street)), segment(ordered))
    palette = Image.fromarray(street).convert('P')
    shown = np.asarray(palette.convert('RGB'))
    np.testing.assert_array_equal(segment(palette), segment(shown if order == 'rgb' else shown[..., ::-1]))


def test_images_in_any_memory_are_taken(torch_segmenter, street):
    expected = torch_segmenter.segment(street).label
    frozen = street.copy()
    frozen.flags.writeable = False
    wide = np.zeros((96, 256, 3), np.uint8)
    wide[:, ::2] = street
    for image in (frozen, wide[:, ::2], np.asfortranarray(street), street[::-1].copy()[::-1]):
        np.testing.assert_array_equal(torch_segmenter.segment(image).label, expected)
    for result in torch_segmenter.segment_batch(np.stack([street, street])):
        assert (result.label == expected).mean() > 0.99


@pytest.mark.parametrize(
    ('make', 'remedy'),
    [
        (lambda image: image.astype(np.float32) / 255, r'float32 .*\(image \* 255\)\.round\(\)\.astype'),
        (lambda image: image.astype(np.uint16) << 8, r'uint16 .*image >> 8'),
        (lambda image: image > 127, r'bool .*\* 255'),
        (lambda image: image.astype(np.int64), r'int64 .*astype\(numpy\.uint8\)'),
        (lambda image: image.transpose(2, 0, 1), r'image\.transpose\(1, 2, 0\)'),
        (lambda image: image[None], r'segment_batch'),
        (lambda image: image[..., :2], r'uint8 \(96, 128, 2\)'),
        (lambda image: torch.from_numpy(image), r'Tensor.*permute'),
        (lambda _: 'street.png', r'is a str.*cv2\.imread'),
        (lambda _: Path('street.png'), r'Path.*PIL\.Image\.open'),
        (lambda image: image.tolist(), r'is a list.*numpy\.asarray'),
        (lambda _: None, r'is a NoneType'),
    ],
)
def test_other_images_are_refused_in_one_line_that_says_how_to_convert_them(
    torch_segmenter, street, make, remedy
):
    with pytest.raises(ValueError, match=remedy) as refusal:
        torch_segmenter.segment(make(street))
    assert '\n' not in str(refusal.value)


@pytest.mark.parametrize('order', ['BGR', 'nonsense', None, 3])
def test_an_unknown_order_of_channels_is_refused(torch_segmenter, street, order):
    with pytest.raises(ValueError, match='choose one of rgb, bgr'):
        torch_segmenter.segment(street, order=order)


def test_the_network_sees_the_size_that_is_asked_for_or_one_side_of_it(enlarging_weights):
    job = Segmenter.load(os.fspath(enlarging_weights), engine='torch').job
    assert job((96, 128)).network_size == (192, 256), 'enlarged to the least size'
    assert job((240, 100)).network_size == (240, 100), 'which it fills'
    assert job((96, 128), network_size=(48, 64)).network_size == (48, 64)
    assert job((96, 128), network_size=(48, 0)).network_size == (48, 64)
    assert job((96, 128), network_size=(0, 64)).network_size == (48, 64)
    for image_size, network_size in (((1, 8192), (4096, 0)), ((96, 128), (8192, 8192))):
        with pytest.raises(ValueError, match='network_height'):
            job(image_size, network_size=network_size)


@pytest.mark.parametrize('size', [(240.5, 320), '240', (1, 2, 3), None])
def test_a_network_size_that_is_not_two_whole_numbers_is_refused(tiny_weights, street, size):
    said = re.escape(f'network_size={size!r} must be two whole numbers')
    with pytest.raises(ValueError, match=said):
        Segmenter.load(tiny_weights, network_size=size)
    if size is not None:  # None is the segmenter's
        with pytest.raises(ValueError, match=said):
            Segmenter.load(tiny_weights, engine='torch').segment(street, network_size=size)


def test_an_out_that_may_not_be_written_is_refused(tiny_weights, street):
    out = np.zeros(street.shape[:2], np.uint8)
    out.flags.writeable = False
    with pytest.raises(ValueError, match='contiguous, writeable uint8'):
        Segmenter.load(tiny_weights, engine='torch').segment(street, out=out)


def test_one_text_in_place_of_names_of_classes_is_refused(tiny_weights, street):
    result = Segmenter.load(tiny_weights, engine='torch').segment(street)
    for paint in (result.mask, lambda classes: result.overlay(0.5, classes)):
        with pytest.raises(ValueError, match=r"classes='road' must be several names: write \['road'\]"):
            paint('road')


@pytest.mark.parametrize('engine', ['openvino', 'torch'])
def test_threads_that_share_a_segmenter_get_the_labels_of_their_own_images(tiny_weights, street, engine):
    pytest.importorskip(engine)
    plain = Segmenter.load(tiny_weights, engine=engine, threads=1)
    group = {'name': 'ground', 'color': [1, 2, 3], 'of': ['road', 'car']}
    both = (plain, plain.grouped(ClassGroups.from_dict({'name': 'groups', 'classes': [group]})))
    images = [np.roll(street, 16 * n, axis=1) for n in range(8)]
    alone = [[segmenter.segment(image).label for segmenter in both] for image in images]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda n: both[n % 2].segment(images[n % 8]).label, range(200)))
    for n, label in enumerate(together):
        np.testing.assert_array_equal(label, alone[n % 8][n % 2])


FORK = """
import multiprocessing, sys
from lw_refinenet_ros import Segmenter, WeightsError

def load(weights):
    try:
        Segmenter.load(weights)
    except WeightsError as error:
        print(error, flush=True)

Segmenter.load(sys.argv[1])
child = multiprocessing.get_context('fork').Process(target=load, args=(sys.argv[1],))
child.start()
child.join()
"""


def test_loading_in_a_forked_process_which_would_hang_is_refused(tiny_weights):
    code = f'import torch; torch.set_num_threads(2)\n{FORK}'
    done = subprocess.run([sys.executable, '-c', code, tiny_weights], capture_output=True, text=True)
    assert done.stdout.startswith('this process was forked from one that has loaded weights'), done.stderr
    assert "get_context('spawn')" in done.stdout
