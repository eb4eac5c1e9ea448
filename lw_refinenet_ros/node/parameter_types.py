# SPDX-License-Identifier: Apache-2.0
"""Compares a parameter with its declared type and range; what rclpy says of them names no remedy."""

from __future__ import annotations

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.parameter import Parameter

__all__ = ['fitting']

EMPTY = 'an empty list has no type in ROS; write [""]'
WANTED = {  # of each type: its name, and what to write
    Parameter.Type.BOOL: ('boolean', 'true or false'),
    Parameter.Type.INTEGER: ('whole number', 'one without a decimal point'),
    Parameter.Type.DOUBLE: ('number', 'one'),
    Parameter.Type.STRING: ('text', "what looks like a number or a list in quotes: '5', in a shell \"'5'\""),
    Parameter.Type.STRING_ARRAY: ('list of texts', 'one like ["road", "car"]'),
}


def fitting(parameter: Parameter, descriptor: ParameterDescriptor) -> Parameter:
    """Return a parameter of the declared type; a whole number is taken for a double.

    Raises:
        ValueError: it is of another type or out of the declared range.
    """
    value, declared = parameter.value, Parameter.Type(descriptor.type)
    ranges = [*descriptor.integer_range, *descriptor.floating_point_range]
    within = ''.join(f' from {each.from_value} to {each.to_value}' for each in ranges)
    is_list = not isinstance(value, (bool, int, float, str))  # or None, as an empty list in a file is
    if declared == Parameter.Type.STRING_ARRAY and is_list and not value:
        raise ValueError(f'{parameter.name}: {EMPTY}')
    if (parameter.type_, declared) == (Parameter.Type.INTEGER, Parameter.Type.DOUBLE):
        value = float(value)
    elif parameter.type_ != declared:
        kind, wanted = WANTED[declared]
        shown = list(value) if value and is_list else value
        fault = f'{shown!r} is no {kind}' if value is not None else 'it has no value'
        raise ValueError(f'{parameter.name}: {fault}; write {wanted}{within}')
    if not all(each.from_value <= value <= each.to_value for each in ranges):
        raise ValueError(f'{parameter.name}: {value} is out of range; write a value{within}')
    return Parameter(parameter.name, declared, value)
