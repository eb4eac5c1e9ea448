# SPDX-License-Identifier: Apache-2.0
"""Odd parameters sent to the running node's own services: taken or refused in one clear line."""

import math
import random
from collections import Counter

import numpy as np
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters, SetParametersAtomically

from lw_refinenet_ros.node.parameters import PARAMETERS
from test.support.long_run import LongRun

LONGEST_REASON = 2000  # characters; the longest lists every class
INTEGERS = (0, 1, -1, 2, 7, 480, 640, 16384, 16385, 1 << 31, (1 << 63) - 1, -(1 << 63))
DOUBLES = (0.0, -0.0, 0.5, 1.0, 1.0000001, -1e-300, 1e-300, 1e308, math.nan, math.inf, -math.inf)
STRINGS = (
    '', ' ', 'camvid', 'no_such', 'x' * 100_000, 'ünï', 'a\nb', '%s%n', '\x1b[31m', 'true', '0.5', '/', '~',
    '/dev/zero', '/dev/tty', '/proc/self/mem', '/proc/self/environ', '../../etc/passwd', 'weights/',
    '~nobody/x.safetensors', '/dev/zero.safetensors', 'cuda', 'torch', 'fp16', 'raw', 'sky', 'car',
)  # fmt: skip


def odd_parameter(rng: random.Random) -> Parameter:
    """Return a name, usually a known one, with a value of any type."""
    names = [p.name for p in PARAMETERS] + ['use_sim_time', 'no_such', '', 'a.b', 'x' * 1000]
    chosen = rng.choice(names)
    kind = rng.randint(ParameterType.PARAMETER_NOT_SET, ParameterType.PARAMETER_STRING_ARRAY)
    if rng.random() < 0.6:  # the right type, so that the value itself is looked at
        default = next((p.default for p in PARAMETERS if p.name == chosen), True)
        right = {bool: 1, int: 2, float: 3, str: 4, list: 9}
        kind = right[type(default)]
    value = ParameterValue(type=kind)
    length = rng.choice((0, 1, 2, 50))
    value.bool_value = rng.random() < 0.5
    value.integer_value = rng.choice(INTEGERS)
    value.double_value = rng.choice(DOUBLES)
    value.string_value = rng.choice(STRINGS)
    value.bool_array_value = [True] * length
    value.integer_array_value = rng.choices(INTEGERS, k=length)
    value.double_array_value = rng.choices(DOUBLES, k=length)
    value.string_array_value = rng.choices(STRINGS, k=length)
    value.byte_array_value = [b'\xff'] * length
    return Parameter(name=chosen, value=value)


def set_odd_parameters(node: LongRun, count: int, seed: int, progress=lambda done: None) -> Counter:
    """Send so many requests of one to three odd parameters; the node then serves with its first values.

    Raises:
        AssertionError: no answer, no reason, or none in one clear line; or no frame is served afterwards.
    """
    rng, fates = random.Random(seed), Counter()
    settable = [p.name for p in PARAMETERS if not p.read_only] + ['use_sim_time']
    good = dict(zip(settable, node.get(*settable)))
    for index in range(count):
        parameters = [odd_parameter(rng) for _ in range(rng.randint(1, 3))]
        if index % 2:
            request = SetParametersAtomically.Request(parameters=parameters)
            results = [node.call(SetParametersAtomically, 'set_parameters_atomically', request).result]
        else:
            request = SetParameters.Request(parameters=parameters)
            results = node.call(SetParameters, 'set_parameters', request).results
        for result in results:
            fates['taken' if result.successful else 'refused'] += 1
            reason = result.reason
            sound = result.successful or (reason and reason.isprintable() and len(reason) < LONGEST_REASON)
            assert sound, f'no clear line: {reason[:300]!r} for {str(parameters)[:500]}'
        if index % 10 == 0:
            asked = [p.name for p in parameters]
            node.call(GetParameters, 'get_parameters', GetParameters.Request(names=asked))
            request = DescribeParameters.Request(names=asked)
            node.call(DescribeParameters, 'describe_parameters', request)
        progress(index + 1)
    back = [Parameter(name=name, value=good[name]) for name in settable]
    request = SetParametersAtomically.Request(parameters=back)
    result = node.call(SetParametersAtomically, 'set_parameters_atomically', request).result
    assert result.successful, result.reason
    picture = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    node.answer('label', picture, 10**15 + seed)
    return fates
