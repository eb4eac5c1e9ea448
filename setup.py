# SPDX-License-Identifier: Apache-2.0
"""Packaging for colcon and pip. What package.xml says is not repeated here; tools are in pyproject.toml."""

from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

MANIFEST = ElementTree.parse(Path(__file__).resolve().parent / 'package.xml').getroot()
NAME = MANIFEST.findtext('name')
MAINTAINER = MANIFEST.find('maintainer')


def data_files() -> list[tuple[str, list[str]]]:
    """Files below share/, each folder as it is here; paths stay relative, as colcon's symlinks need them."""
    share = f'share/{NAME}'
    folders = {'share/ament_index/resource_index/packages': [f'resource/{NAME}'], share: ['package.xml']}
    for pattern in ('launch/*.launch.py', 'config/**/*', 'weights/*'):
        for file in sorted(Path().glob(pattern)):
            if file.is_file() and not file.name.startswith('.'):
                folders.setdefault(f'{share}/{file.parent.as_posix()}', []).append(file.as_posix())
    return list(folders.items())


setup(
    name=NAME,
    version=MANIFEST.findtext('version'),
    description=MANIFEST.findtext('description'),
    license=MANIFEST.findtext('license'),
    maintainer=MAINTAINER.text,
    maintainer_email=MAINTAINER.get('email'),
    python_requires='>=3.10',
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={'': ['py.typed', '*.j2', '*.css', '*.js', '*.json', '*.yaml']},
    data_files=data_files(),
    zip_safe=False,
    # All that is needed without ROS; `make venv` leaves to an installed ROS what comes from there.
    install_requires=[
        'av',  # H.264: OpenCV's wheels cannot write it
        "backports-zstd; python_version < '3.14'",
        'jinja2',  # the pages of reports
        'lz4',
        'numpy',
        'opencv-python-headless',
        'openvino',
        'pillow',
        'PyYAML',
        'rosbags',
        'safetensors',
        'torch',
    ],
    extras_require={
        'test': ['pytest'],  # by this `colcon test` knows to run pytest
        'polygons': ['pycocotools', 'shapely>=2.1'],
        'quantize': ['nncf'],
        'export': ['onnx'],
        'ray': ['ray'],
        'view': ['rerun-sdk>=0.23'],
    },
    entry_points={
        'console_scripts': [
            'segmentation_node = lw_refinenet_ros.node.main:main',
            'lw_refinenet = lw_refinenet_ros.cli.main:main',
        ],
    },
)
