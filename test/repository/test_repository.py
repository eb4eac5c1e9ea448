# SPDX-License-Identifier: Apache-2.0
"""What the repository's files say of each other: links, licences, dependencies, locks."""

import ast
import functools
import json
import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10, where pytest brings it
    import tomli as tomllib

import lw_refinenet_ros
from lw_refinenet_ros.model.weights import read_card

ROOT = Path(lw_refinenet_ros.__file__).resolve().parent.parent
PYTHON = [
    file
    for folder in ('lw_refinenet_ros', 'launch', 'test', 'benchmark', 'docs', 'requirements')
    for file in sorted((ROOT / folder).rglob('*.py'))
] + [ROOT / 'setup.py']
PAGES = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/*.md'), *ROOT.glob('weights/*.md')])
OF_ROS = re.compile(
    r'rclpy|rosbag2_py|cv_bridge|message_filters|diagnostic_updater|(launch|ament|rcl|tf2)_?\w*'
    r'|\w+_(msgs|msgs_py|interfaces)'
)
LINK = re.compile(r'\]\(([^)#\s]+)[^)]*\)')
PINNED = re.compile(r'^([\w.-]+)==([^\s;]+)', re.MULTILINE)


def requirements(name: str) -> str:
    return (ROOT / 'requirements' / name).read_text()


def test_every_python_file_names_its_licence_first():
    first = '# SPDX-License-Identifier: Apache-2.0'
    assert [str(file) for file in PYTHON if file.read_text().split('\n', 1)[0] != first] == []


def test_every_test_module_that_needs_ros_is_marked():
    tests = {str(file): file.read_text() for file in PYTHON}
    needs_ros = {name for name, text in tests.items() if "\npytest.importorskip('rclpy'" in text}
    assert needs_ros
    assert {name for name in needs_ros if '\npytestmark = pytest.mark.ros\n' not in tests[name]} == set()


def test_every_test_module_that_imports_ros_skips_without_it():
    texts = {'.'.join(file.relative_to(ROOT).with_suffix('').parts): file.read_text() for file in PYTHON}

    @functools.cache
    def imports_ros(name: str) -> bool:
        for statement in ast.parse(texts[name]).body:
            modules = [alias.name for alias in getattr(statement, 'names', [])]
            if isinstance(statement, ast.ImportFrom):
                modules = [statement.module, *(f'{statement.module}.{module}' for module in modules)]
            for module in modules:
                if OF_ROS.fullmatch(module.split('.')[0]) or (module in texts and imports_ros(module)):
                    return True
        return False

    tests = {name for name in texts if name.split('.')[-1].startswith('test_') and imports_ros(name)}
    assert 'test.node.test_node' in tests
    assert {name for name in tests if "\npytest.importorskip('rclpy'" not in texts[name]} == set()


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page):
    links = [link for link in LINK.findall(page.read_text()) if '://' not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_index_of_the_documentation_lists_every_page():
    docs = ROOT / 'docs'
    listed = set(re.findall(r'^   (\w+)$', (docs / 'index.rst').read_text(), re.MULTILINE))
    assert listed == {page.stem for page in [*docs.glob('*.md'), *docs.glob('*.rst')]} - {'index'}


def test_the_manifest_declares_every_ros_package_that_is_imported():
    manifest = ElementTree.parse(ROOT / 'package.xml').getroot()
    declared = {element.text for element in manifest.findall('exec_depend')}
    imported = set()
    for file in [*(ROOT / 'lw_refinenet_ros').rglob('*.py'), *(ROOT / 'launch').glob('*.py')]:
        for statement in ast.walk(ast.parse(file.read_text())):
            if isinstance(statement, ast.Import):
                imported |= {alias.name.split('.')[0] for alias in statement.names}
            elif isinstance(statement, ast.ImportFrom) and statement.module:
                imported.add(statement.module.split('.')[0])
    assert {'rclpy', 'sensor_msgs', 'launch_ros'} <= imported
    assert {name for name in imported if OF_ROS.fullmatch(name)} - declared == set()


def test_rviz_finds_a_place_for_every_pane_in_its_configuration():
    rviz = yaml.safe_load((ROOT / 'config/segmentation.rviz').read_text())
    displays = rviz['Visualization Manager']['Displays']
    panes = [pane['Name'] for pane in (*rviz['Panels'], *displays) if pane['Name'] != 'Points']  # in 3D
    window = rviz['Window Geometry']
    state = bytes.fromhex(window['QMainWindow State'])
    assert [name for name in panes if name.encode('utf-16-be') not in state] == []
    assert (window['Hide Left Dock'], window['Hide Right Dock']) == (False, False)


def test_the_viewers_configurations_show_topics_of_the_node_the_overlay_first():
    layout = json.loads((ROOT / 'config/foxglove.json').read_text())
    rviz = yaml.safe_load((ROOT / 'config/segmentation.rviz').read_text())['Visualization Manager']
    displays = rviz['Displays']
    assert 'rviz_default_plugins/MoveCamera' in [tool['Class'] for tool in rviz['Tools']]
    shown = re.findall(r'"(/lw_refinenet/\w+)"', json.dumps(layout).replace('\\', ''))
    in_rviz = [display['Topic']['Value'] for display in displays]
    assert shown[0] == in_rviz[0] == '/lw_refinenet/overlay'
    topics = {f'/lw_refinenet/{name}' for name in re.findall(r'`~/(\w+)`', (ROOT / 'README.md').read_text())}
    assert {*shown, *in_rviz} - topics == {'/camera/image_raw'}
    panels = set(re.findall(r'\w+!\w+', json.dumps(layout['layout'])))
    assert panels == set(layout['configById'])
    (script,) = layout['userNodes'].values()
    painted = re.search(r'output = "(.*?)"', script['sourceCode'])[1]
    assert painted in json.dumps(layout['configById'])
    # Lichtblick runs no script of which an input is missing, and bags of results have no ~/label_names
    assert re.search('inputs = (.*);', script['sourceCode'])[1] == '["/lw_refinenet/label"]'
    assert re.search(r'is_bigendian: (\w+)', script['sourceCode'])[1] == '0', 'a number: it runs no others'
    colors = json.loads(re.search('= (\\[\\[.*\\]\\]);', script['sourceCode'])[1])
    assert colors == [list(color) for color in read_card('camvid').labels.colors]
    for panel in layout['configById'].values():
        assert panel['foxglovePanelTitle'] == panel['lichtblickPanelTitle']


def test_the_lock_has_the_versions_of_the_constraints_and_a_hash_for_each():
    lock = requirements('lock-wheels.txt')
    locked = set(PINNED.findall(lock))
    assert locked <= set(PINNED.findall(requirements('constraints.txt')))
    assert {name for name, _ in locked} >= {'torch', 'numpy', 'openvino', 'ros-jazzy-rclpy', 'ros-fastrtps'}
    for entry in re.split(r'\n(?=[\w.-]+==)', lock)[1:]:
        assert '--hash=sha256:' in entry, entry.split('\n', 1)[0]


def test_the_lock_leaves_the_choice_of_torch_to_the_package_index():
    lock = requirements('lock-wheels.txt')
    assert '+cpu' not in lock
    assert 'nvidia-cublas==' in lock, "torch's build for Linux brings CUDA"
    assert not re.search(r'^\s*(--|-f|-i)', re.sub(r'--hash=\S+', '', lock), re.MULTILINE), 'names an index'


def test_kilteds_constraints_hold_only_ros():
    assert all(name.startswith('ros-') for name, _ in PINNED.findall(requirements('constraints-kilted.txt')))


def test_jazzy_and_kilted_take_the_same_packages():
    groups = tomllib.loads((ROOT / 'pyproject.toml').read_text())['dependency-groups']
    kilted, jazzy = (
        [line.replace(f'-{distro}-', '-').split('==')[0] for line in groups[distro]]
        for distro in ('kilted', 'jazzy')
    )
    assert 'ros-rclpy' in kilted
    assert jazzy == kilted


def test_the_table_of_licences_lists_every_locked_package():
    table = (ROOT / 'docs' / 'licences.md').read_text()
    missing = {
        name for name, _ in PINNED.findall(requirements('lock-wheels.txt')) if f'| {name} |' not in table
    }
    assert missing == set(), 'run make licences'


def test_make_lists_what_there_is_to_make():
    targets = re.search(r'^\.PHONY: (.*)', (ROOT / 'Makefile').read_text(), re.MULTILINE)[1].split()
    assert {'demo', 'test', 'lock'} <= set(targets)
    listed = subprocess.run(['make', '-s'], cwd=ROOT, capture_output=True, text=True).stdout
    for target in set(targets) - {'help', 'venv-dev', 'venv-release'}:
        assert f'make {target} ' in listed
