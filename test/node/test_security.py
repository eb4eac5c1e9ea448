# SPDX-License-Identifier: Apache-2.0
"""What a hostile file can do to the node: nothing unpickled, nothing unbounded, nothing written."""

import ast
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors
from safetensors.torch import load_file, save_file

import lw_refinenet_ros
from lw_refinenet_ros.model import limits, weights
from lw_refinenet_ros.model.weights import ENTRY, WeightsError, load_model, read_card

ROOT = Path(lw_refinenet_ros.__file__).resolve().parent
EXECUTES = {
    *('pickle', '_pickle', 'cPickle', 'cloudpickle', 'dill', 'joblib', 'marshal', 'shelve', 'runpy'),
    *('torch.load', 'torch.jit.load', 'torch.hub', 'torch.package', 'numpy.load', 'numpy.fromregex'),
    *('yaml.load', 'yaml.load_all', 'yaml.unsafe_load', 'yaml.full_load', 'yaml.Loader', 'yaml.UnsafeLoader'),
    *('yaml.FullLoader', 'eval', 'exec', 'compile', '__import__', 'os.system', 'os.popen', 'subprocess'),
}


def imports_of(file: Path) -> dict[str, str]:
    """The local name of everything that a file imports, and what it is in full."""
    found = {}
    for statement in ast.walk(ast.parse(file.read_text())):
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                found[alias.asname or alias.name.split('.')[0]] = (
                    alias.name if alias.asname else alias.name.split('.')[0]
                )
        elif isinstance(statement, ast.ImportFrom):
            assert not statement.level, f'{file}: a relative import'
            found |= {a.asname or a.name: f'{statement.module}.{a.name}' for a in statement.names}
    return found


def reach(start: str) -> set[Path]:
    """Every file of the package that a module imports, at the top or later, directly or not."""
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        inner = waiting.pop().split('.')[1:]
        for depth in range(len(inner) + 1):  # a package's __init__ runs too; the last name may be no module
            place = ROOT.joinpath(*inner[:depth])
            for file in (place / '__init__.py', place.with_suffix('.py')):
                if file.is_file() and file not in seen:
                    seen.add(file)
                    waiting += [m for m in imports_of(file).values() if m.startswith('lw_refinenet_ros.')]
    return seen


def executing_calls(file: Path) -> list[str]:
    """Every name in a file that stands for something that runs what it reads."""
    imported = imports_of(file)
    found = [name for name in imported.values() if name in EXECUTES]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Attribute | ast.Name):
            first, *rest = ast.unparse(node).split('.')
            full = '.'.join([imported.get(first, first), *rest])
            if full in EXECUTES and (rest or isinstance(node, ast.Name)):
                found.append(full)
    return found


def test_no_file_in_the_nodes_reach_unpickles_or_runs_what_it_reads():
    files = reach('lw_refinenet_ros.node.main')
    names = {file.relative_to(ROOT).as_posix() for file in files}
    assert {'node/camera.py', 'inference/segmenter.py', 'model/weights.py', 'model/resnet.py'} <= names
    assert {str(file): found for file in files if (found := executing_calls(file))} == {}


@pytest.mark.parametrize(
    'line',
    [
        'import pickle',
        'def later():\n    import torch\n    return torch.load("x", weights_only=True)',
        'from torch import load',
        'import numpy as np\nnp.load("x.npz")',
        'import yaml\nyaml.load("x", yaml.Loader)',
        'eval("1")',
    ],
)
def test_what_runs_what_it_reads_is_found(tmp_path, line):
    (tmp_path / 'module.py').write_text(line)
    assert executing_calls(tmp_path / 'module.py')


AUDITED = """
import sys
def watch(event, arguments):
    if event == 'pickle.find_class':
        print('UNPICKLED', arguments, file=sys.stderr, flush=True)
    elif event == 'open' and isinstance(arguments[0], str) and arguments[0].endswith('.safetensors'):
        if arguments[2] & 0o3:
            print('WRITTEN', arguments, file=sys.stderr, flush=True)
sys.addaudithook(watch)
from lw_refinenet_ros.node.main import main
main()
"""


@pytest.mark.ros
def test_a_node_that_serves_and_changes_weights_unpickles_nothing(tiny_weights, tmp_path, street):
    import signal

    from test.support.node_process import NodeProcess

    pickled = tmp_path / 'pickled.safetensors'
    import torch

    torch.save({'state_dict': {}}, pickled)
    node = NodeProcess(program=AUDITED, weights=str(tiny_weights), network_height=96, network_width=128)
    try:
        node.listen('label', 'overlay')
        node.wait_active()
        node.answer('label', street, 1)
        (refused,) = node.set(weights=str(pickled))
        assert not refused.successful
        assert 'safetensors' in refused.reason
        assert node.set(weights=str(tiny_weights))[0].successful
        node.answer('label', street, 2)
        status, _, output = node.stop(signal.SIGINT)
    finally:
        node.close()
    assert status == 0, output
    assert 'UNPICKLED' not in output
    assert 'WRITTEN' not in output


def test_a_weights_file_is_open_for_reading_only_while_its_tensors_are_read(tiny_weights, monkeypatch):
    seen = []
    path, compare = tiny_weights.resolve(), weights.compare_shapes

    def look(*shapes):
        for entry in Path('/proc/self/fd').iterdir():
            if entry.exists() and entry.resolve() == path:
                flags = re.search(r'flags:\s*(\d+)', Path(f'/proc/self/fdinfo/{entry.name}').read_text())
                seen.append(int(flags[1], 8) & os.O_ACCMODE)
        maps = [m.split() for m in Path('/proc/self/maps').read_text().splitlines() if m.endswith(str(path))]
        seen.extend(
            os.O_RDONLY if m[1].endswith('p') else os.O_RDWR for m in maps
        )  # a private one stays here
        return compare(*shapes)

    monkeypatch.setattr(weights, 'compare_shapes', look)
    load_model(path)
    assert set(seen) == {os.O_RDONLY}


def test_weights_in_the_home_of_nobody_are_refused_like_any_that_are_missing():
    from lw_refinenet_ros.resources import find_weights

    with pytest.raises(ValueError, match='no such home directory'):
        find_weights('~nobody_has_this_name/x.safetensors')


def test_a_pipe_in_place_of_weights_is_refused_at_once(tmp_path):
    pipe = tmp_path / 'pipe.safetensors'
    os.mkfifo(pipe)
    with pytest.raises(WeightsError, match='not a regular file'):
        read_card(pipe)


def test_a_header_larger_than_any_network_needs_is_refused_before_it_is_parsed(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, 'safe_open', None)  # calling it would fail
    size = limits.MAX_HEADER_BYTES + 8
    path = tmp_path / 'large.safetensors'
    path.write_bytes(struct.pack('<Q', size) + b'{' + b' ' * size + b'}')
    with pytest.raises(WeightsError, match=f'header of {size} bytes; {limits.MAX_HEADER_BYTES} are allowed'):
        read_card(path)


def test_a_weights_file_larger_than_any_network_is_refused_unread(tmp_path):
    path = tmp_path / 'huge.safetensors'
    with path.open('wb') as file:
        file.truncate(limits.MAX_BYTES + 1)  # sparse: it takes no room
    with pytest.raises(WeightsError, match='more than the'):
        read_card(path)


@pytest.mark.parametrize(
    ('training', 'said'),
    [
        ('[' * 17 + ']' * 17, 'nested more than 16 levels'),
        ('[' * 200_000 + ']' * 200_000, 'nested more than 16 levels'),
        ('{"a": NaN}', 'NaN is not a finite number'),
        ('1' * 5000, 'digits'),
    ],
    ids=['deep', 'very deep', 'not a number', 'long number'],
)
def test_a_card_that_is_deep_or_not_finite_is_refused(tiny_weights, tmp_path, training, said):
    with safetensors.safe_open(tiny_weights, framework='pt') as file:
        card = json.loads(file.metadata()[ENTRY])
    card['training'] = '@'
    text = json.dumps(card).replace('"@"', training)
    save_file(load_file(tiny_weights), tmp_path / 'deep.safetensors', {ENTRY: text})
    with pytest.raises(WeightsError, match=said):
        read_card(tmp_path / 'deep.safetensors')


@pytest.mark.parametrize('change', [{'mean': ['a', 0, 0]}, {'mean': [1e999, 0, 0]}, {'temperature': 1e300}])
def test_numbers_of_a_card_are_finite_numbers(tiny_weights, tmp_path, change):
    with safetensors.safe_open(tiny_weights, framework='pt') as file:
        card = json.loads(file.metadata()[ENTRY]) | change
    text = json.dumps(card).replace('Infinity', '1e999')
    save_file(load_file(tiny_weights), tmp_path / 'odd.safetensors', {ENTRY: text})
    with pytest.raises(WeightsError, match=r'must be (three finite numbers|from 0\.001 to 1000)'):
        read_card(tmp_path / 'odd.safetensors')


def flow(depth: int) -> bytes:
    return b'/**:\n  ros__parameters:\n    a: ' + b'[' * depth + b']' * depth + b'\n'


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        (flow(100_000), 'nested more than 32 levels deep'),
        (b'/**: # ' + b'x' * (256 << 10), 'larger than the 262144 bytes'),
        (b'/**: [', 'not YAML'),
        (None, 'No such file or directory'),
    ],
    ids=['deep', 'large', 'broken', 'missing'],
)
@pytest.mark.ros
def test_a_parameter_file_out_of_bounds_is_refused_by_name(tmp_path, content, said):
    from lw_refinenet_ros.node.process.parameter_files import ParameterFiles

    file = tmp_path / 'params.yaml'
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=f'^{re.escape(str(file))}.*{said}'):
        ParameterFiles(['node', '--ros-args', '--params-file', str(file)])


@pytest.mark.ros
def test_a_node_with_a_parameter_file_out_of_bounds_ends_with_one_line(tmp_path):
    file = tmp_path / 'params.yaml'
    file.write_bytes(flow(100_000))
    command = ['-m', 'lw_refinenet_ros.node.main', '--ros-args', '--params-file', str(file)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(rf'segmentation_node: {file}: .*nested more than 32 levels deep\n', done.stderr)


@pytest.mark.ros
def test_the_shipped_parameter_file_is_within_the_bounds():
    from lw_refinenet_ros.node.process.parameter_files import ParameterFiles
    from lw_refinenet_ros.resources import share_path

    ParameterFiles(['--ros-args', '--params-file', str(share_path('config/segmentation.yaml'))])


@pytest.mark.ros
def test_a_parameter_file_that_is_a_pipe_is_refused_at_once(tmp_path):
    from lw_refinenet_ros.node.process.parameter_files import ParameterFiles

    os.mkfifo(tmp_path / 'pipe.yaml')
    with pytest.raises(ValueError, match='not a regular file'):
        ParameterFiles(['--params-file', str(tmp_path / 'pipe.yaml')])


FORKS = """
import atexit, os, sys
events = []
sys.addaudithook(lambda event, _: events.append(event) if event in ('os.fork', 'socket.connect') else None)
atexit.register(lambda: os.write(1, repr(events).encode()))
import lw_refinenet_ros.inference.openvino_engine
"""


def test_importing_the_engine_reports_nothing_to_anybody():
    environment = {name: value for name, value in os.environ.items() if name != 'CI'}
    done = subprocess.run([sys.executable, '-c', FORKS], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, '[]'), done.stderr


@pytest.mark.ros
def test_the_sros2_policy_allows_every_topic_and_service_of_the_running_node(tiny_weights):
    from xml.etree import ElementTree

    from lw_refinenet_ros.resources import share_path
    from test.support.node_process import NodeProcess

    policy = ElementTree.parse(share_path('config/sros2/policy.xml'))
    (profile,) = policy.iter('profile')
    name = profile.get('ns') + profile.get('node')

    def allowed(kind: str, how: str) -> set[str]:
        groups = [group for group in profile.iter(f'{kind}s') if group.get(how) == 'ALLOW']
        return {entry.text.replace('~', name, 1) for group in groups for entry in group}

    node = NodeProcess(weights=str(tiny_weights), remap='image:=/camera/image_raw')
    try:
        node.spin_until(lambda: node.status and node.status[1]['state'] == 'active', 'active node')
        node.listen('label')  # else it subscribes to no camera
        client, where = node.client, (profile.get('node'), profile.get('ns'))

        def seen(of: str) -> set[str]:
            return {found for found, _types in getattr(client, f'get_{of}_names_and_types_by_node')(*where)}

        # Discovery tells of one after the other.
        for of, one in (
            ('publisher', f'{name}/label'),
            ('subscriber', '/camera/image_raw'),
            ('service', f'{name}/set_parameters'),
        ):
            node.spin_until(lambda of=of, one=one: one in seen(of), f'{of} of {one}')
        assert seen('publisher') - allowed('topic', 'publish') == set()
        assert seen('subscriber') - allowed('topic', 'subscribe') == set()
        assert seen('service') - allowed('service', 'reply') == set()
    finally:
        node.close()


@pytest.mark.ros
def test_security_that_cannot_be_had_ends_the_node_with_one_line_that_says_so(tmp_path):
    pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')
    enclave = tmp_path / 'enclaves/lw_refinenet'
    enclave.mkdir(parents=True)
    for name in ('identity_ca.cert.pem', 'cert.pem', 'key.pem', 'permissions_ca.cert.pem'):
        (enclave / name).touch()
    for name in ('governance.p7s', 'permissions.p7s'):
        (enclave / name).touch()
    keys = {'ROS_SECURITY_KEYSTORE': str(tmp_path), 'ROS_SECURITY_ENABLE': 'true'}
    done = subprocess.run(
        [sys.executable, '-m', 'lw_refinenet_ros.node.main', '--ros-args', '--enclave', '/lw_refinenet'],
        env=os.environ | keys | {'ROS_SECURITY_STRATEGY': 'Enforce'},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert 'Traceback' not in done.stderr
    assert done.stderr.splitlines()[-1].startswith('segmentation_node: error creating node: ')
