# SPDX-License-Identifier: Apache-2.0
"""YAML from anybody costs no more than its size, and holds plain values only."""

import os

import pytest

from lw_refinenet_ros.bounded_yaml import MAX_BYTES, MAX_DEPTH, MAX_DIGITS, parse_yaml, read_yaml
from lw_refinenet_ros.labels import LabelSet

NINE_LAUGHS = 'a0: &a0 lol\n' + ''.join(
    f'a{i + 1}: &a{i + 1} [{", ".join([f"*a{i}"] * 9)}]\n' for i in range(9)
)


def test_plain_values_are_read():
    text = 'name: camvid\nnumbers: [1, -2.5, 0x1F, true, ~]\ndate: 2026-11-25\n? 7\n: "7"\n'
    assert parse_yaml(text) == {
        'name': 'camvid',
        'numbers': [1, -2.5, 31, True, None],
        'date': '2026-11-25',
        7: '7',
    }
    assert parse_yaml('a: !!python/tuple\n- b\n- !!python/tuple []\n') == {'a': ['b', []]}
    assert parse_yaml(b'') is None
    assert parse_yaml('[' * MAX_DEPTH + ']' * MAX_DEPTH)
    assert parse_yaml('7' * MAX_DIGITS) == int('7' * MAX_DIGITS)
    assert parse_yaml('#' * MAX_BYTES) is None


@pytest.mark.parametrize(
    ('text', 'fault'),
    [
        (NINE_LAUGHS, r'line 2 has the alias \*a0: write'),
        ('a: &a {b: 1}\nc: {<<: 1}', 'line 2 has a merge'),
        ('a: !!python/object/apply:os.getcwd []', 'line 1 has the tag tag:yaml.org,2002:python'),
        ('!!python/tuple {a: b}', 'the tag .*tuple'),
        ('!!set {a, b}', 'the tag .*set'),
        ('!!int ""', 'the tag .*int'),
        ('[' * (MAX_DEPTH + 1) + ']' * (MAX_DEPTH + 1), f'nested more than {MAX_DEPTH} levels'),
        ('{a: ' * 9999, f'nested more than {MAX_DEPTH} levels'),
        ('7' * (MAX_DIGITS + 1), f'a number of {MAX_DIGITS + 1} characters'),
        ('1' + ':59' * MAX_DIGITS, 'a number of'),
        ('1.' + '0' * MAX_DIGITS, 'a number of'),
        ('#' * (MAX_BYTES + 1), f'{MAX_BYTES + 1} bytes of YAML: at most {MAX_BYTES}'),
        ('{unclosed', 'not YAML'),
        ('? [a]\n: b', 'not YAML'),
        ('a\n---\nb', 'not YAML'),
        (b'\xff\xfe\x00', 'not YAML'),
        ('a: \x07', 'not YAML'),
    ],
)
def test_what_is_not_plain_or_too_large_is_refused_in_one_line(text, fault):
    with pytest.raises(ValueError, match=fault) as refused:
        parse_yaml(text)
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 600


def test_a_file_is_named_and_must_be_a_regular_one(tmp_path):
    path = tmp_path / 'classes.yaml'
    path.write_text(NINE_LAUGHS)
    for read in (read_yaml, LabelSet.from_yaml):
        with pytest.raises(ValueError, match=r'classes\.yaml: line 2 has the alias') as refused:
            read(path)
        assert str(refused.value).count('classes.yaml') == 1
    path.write_text('#' * (MAX_BYTES + 1))
    with pytest.raises(ValueError, match=rf'classes\.yaml is larger than the {MAX_BYTES} bytes'):
        read_yaml(path)
    assert read_yaml(path, max_bytes=MAX_BYTES + 1) is None
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    for place in (pipe, '/dev/zero', tmp_path):
        with pytest.raises(ValueError, match='not a regular file'):
            read_yaml(place)
