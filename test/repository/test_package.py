# SPDX-License-Identifier: Apache-2.0
"""What colcon and pip install, built for real, and what package.xml and the constraints say."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lw_refinenet_ros
from requirements.constraints import beside_apt, read

PACKAGE = 'lw_refinenet_ros'
ROOT = Path(lw_refinenet_ros.__file__).resolve().parent.parent
SHARED = ['launch', 'config', 'weights']


def files_below(folder: Path) -> set[str]:
    """Return the relative paths of all files below a folder, except Python's caches."""
    files = (file for file in folder.rglob('*') if file.is_file() and '__pycache__' not in file.parts)
    return {file.relative_to(folder).as_posix() for file in files if not file.name.startswith('.')}


def environment() -> dict[str, str]:
    """Return this process's environment with nothing of the checkout on Python's path."""
    return {name: value for name, value in os.environ.items() if name not in {'PYTHONPATH', 'VIRTUAL_ENV'}}


@pytest.fixture(scope='module')
def source(tmp_path_factory) -> Path:
    """Copy the checkout as git sees it: ignored files must not be needed."""
    listed = subprocess.run(
        ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip(f'not a git checkout: {ROOT}')
    copy = tmp_path_factory.mktemp('workspace') / 'src' / PACKAGE
    for name in filter(None, listed.stdout.split('\0')):
        if (ROOT / name).is_file():  # not one that was deleted since
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope='module', params=['isolated', 'merged', 'symlinked'])
def prefix(request, source, tmp_path_factory) -> Path:
    """Build the copy with colcon; return where the package was installed."""
    pytest.importorskip('colcon_core', reason='colcon is not installed')
    pytest.importorskip('colcon_ros', reason='colcon-ros is not installed')
    options = {'merged': ['--merge-install'], 'symlinked': ['--symlink-install']}.get(request.param, [])
    workspace = tmp_path_factory.mktemp(request.param)
    built = subprocess.run(
        [
            *(sys.executable, '-c', 'import sys; from colcon_core.command import main; sys.exit(main())'),
            *('--log-base', 'log', 'build', '--base-paths', source, *options),
            *('--event-handlers', 'console_direct+', 'desktop_notification-', 'status-'),
        ],
        cwd=workspace,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert built.returncode == 0, built.stdout
    return workspace / 'install' / ('' if request.param == 'merged' else PACKAGE)


def run_sourced(prefix: Path, command: str) -> str:
    """Return what a command prints in a shell that has sourced the built package, and nothing else."""
    done = subprocess.run(
        ['bash', '-c', f'. {prefix}/share/{PACKAGE}/package.bash && {command}'],
        cwd=prefix,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_build_installs_the_marker_and_the_manifest(prefix):
    assert (prefix / 'share/ament_index/resource_index/packages' / PACKAGE).is_file()
    assert (prefix / 'share' / PACKAGE / 'package.xml').read_bytes() == (ROOT / 'package.xml').read_bytes()


@pytest.mark.parametrize('folder', SHARED)
def test_the_build_installs_every_shared_file_in_its_folder(prefix, source, folder):
    expected = files_below(source / folder)
    assert expected, f'{folder}/ holds nothing'
    assert files_below(prefix / 'share' / PACKAGE / folder) == expected


def test_the_build_installs_every_file_of_the_python_package(prefix, source):
    program = 'import pathlib, lw_refinenet_ros; print(pathlib.Path(lw_refinenet_ros.__file__).parent)'
    installed = Path(run_sourced(prefix, f"{sys.executable} -c '{program}'").strip())
    assert ROOT not in installed.parents
    assert files_below(installed) == files_below(source / PACKAGE)


@pytest.mark.parametrize('name', ['segmentation_node', 'lw_refinenet'])
def test_ros2_run_finds_the_executable(prefix, name):
    assert os.access(prefix / 'lib' / PACKAGE / name, os.X_OK)


def test_the_installed_command_runs(prefix):
    assert 'usage: lw_refinenet' in run_sourced(prefix, f'{prefix}/lib/{PACKAGE}/lw_refinenet --help')


def test_the_installed_package_finds_its_own_files(prefix, source):
    program = f'from {PACKAGE}.resources import share_path; print(share_path("package.xml"))'
    found = Path(run_sourced(prefix, f"{sys.executable} -c '{program}'").strip())
    assert found in {prefix / 'share' / PACKAGE / 'package.xml', source / 'package.xml'}
    symlinked = (prefix / 'share' / PACKAGE / 'package.xml').is_symlink()
    assert (found == source / 'package.xml') == symlinked


def test_a_wheel_gives_an_empty_environment_the_command_the_api_and_the_weights(source, tmp_path):
    pytest.importorskip('build', reason='build is not installed')

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    copy = shutil.copytree(source, tmp_path / 'source')
    run(sys.executable, '-m', 'build', '--wheel', '--no-isolation', '--outdir', tmp_path, copy)
    shutil.rmtree(copy)
    run(sys.executable, '-m', 'venv', '--without-pip', 'empty')
    python = tmp_path / 'empty/bin/python'
    pip = (sys.executable, '-m', 'pip', '--python', python, '--disable-pip-version-check')
    run(*pip, 'install', '--no-deps', '--no-index', *tmp_path.glob('*.whl'))
    (folder,) = tmp_path.glob('empty/lib/python*/site-packages')
    (folder / 'dependencies.pth').write_text('\n'.join(p for p in sys.path if p.endswith('-packages')))

    assert 'usage: lw_refinenet' in run(python.with_name('lw_refinenet'), '--help')
    program = (
        'import numpy, lw_refinenet_ros as l; segmenter = l.Segmenter.load("camvid", engine="torch");'
        'print(l.__file__, segmenter.segment(numpy.zeros((32, 64, 3), "uint8")).label.shape)'
    )
    assert run(python, '-c', program).split(maxsplit=1) == [f'{folder}/{PACKAGE}/__init__.py', '(32, 64)\n']


def test_a_missing_file_is_named_with_the_places_that_were_searched():
    from lw_refinenet_ros.resources import share_path

    assert share_path('package.xml') == ROOT / 'package.xml'
    message = f"'weights/none.bin' is not among the files of {PACKAGE}; looked for {ROOT}/weights/none.bin"
    with pytest.raises(FileNotFoundError, match=re.escape(message)):
        share_path('weights/none.bin')


@pytest.mark.filterwarnings('ignore::DeprecationWarning')  # catkin_pkg's own
def test_the_manifest_and_the_changelog_are_well_formed_and_agree_with_the_version():
    package = pytest.importorskip('catkin_pkg.package', reason='catkin_pkg is not installed')
    changelog = pytest.importorskip('catkin_pkg.changelog', reason='catkin_pkg is not installed')
    warnings: list[str] = []
    manifest = package.parse_package(str(ROOT), warnings=warnings)
    manifest.validate(warnings=warnings)
    assert warnings == []
    assert manifest.version == lw_refinenet_ros.__version__
    changes = changelog.get_changelog_from_path(str(ROOT)).foreach_version()
    assert manifest.version in {version for version, _date, _content in changes}


def test_pip_adds_to_an_installed_ros_only_what_it_lacks_in_the_versions_without_ros():
    versions = read('constraints.txt')
    apt = {'numpy': '1.26.4', 'pillow': '10.2.0', 'torch': '2.5.0a0+nv', 'setuptools': '68.1.2'}
    added = list(beside_apt(versions, apt))
    assert {'torch==2.5.0a0+nv', 'numpy==1.26.4', 'setuptools==79.0.1'} <= set(added)
    assert [line for line in added[:-2] if line not in versions] == []
    assert not any(line.startswith('pillow') for line in added)
    torch = next(line for line in versions if line.startswith('torch=='))
    assert torch in beside_apt(versions, {'numpy': '1.26.4'})


@pytest.mark.parametrize(('python', 'numpy'), [((3, 12), 'numpy<2'), ((3, 14), 'numpy==2.3.5')])
def test_numpy_stays_below_2_where_cv_bridge_needs_that(monkeypatch, python, numpy):
    monkeypatch.setattr(sys, 'version_info', python)
    assert list(beside_apt([], {'numpy': '2.3.5'})) == [numpy]


def test_the_lock_pins_what_a_plain_pip_install_takes():
    setup = ast.walk(ast.parse((ROOT / 'setup.py').read_text()))
    listed = next(k.value for k in setup if isinstance(k, ast.keyword) and k.arg == 'install_requires')
    names = {re.match(r'[\w.-]+', line)[0].lower() for line in ast.literal_eval(listed)}
    assert {'torch', 'openvino', 'jinja2'} <= names
    pinned = {line.split('==')[0] for line in read('constraints.txt')}
    assert names - pinned == set()


def test_of_several_pythons_the_one_that_sees_the_sourced_ros_is_taken(tmp_path):
    pythons = tmp_path / 'bin'
    pythons.mkdir()
    for name, imports in (('python3', '*rclpy*) exit 1'), ('python3.12', '*rclpy*) exit 0 ;; *cv2*) exit 1')):
        script = pythons / name  # that of an environment such as conda's, and that of ROS
        script.write_text(f'#!/bin/sh\ncase "$*" in {imports} ;; esac\nexec {sys.executable} "$@"\n')
        script.chmod(0o755)
    venv = tmp_path / 'venv'
    sourced = {'PATH': f'{pythons}:{os.environ["PATH"]}', 'ROS_DISTRO': 'jazzy', 'PYTHON': ''}
    done = subprocess.run(
        [ROOT / 'requirements' / 'install', venv],
        capture_output=True,
        text=True,
        check=False,
        env=environment() | sourced,
    )
    assert done.returncode == 1
    assert 'lacks OpenCV, NumPy or YAML for python3.12' in done.stderr
    assert not venv.exists()
