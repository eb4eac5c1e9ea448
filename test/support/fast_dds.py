# SPDX-License-Identifier: Apache-2.0
"""What only Fast DDS does, of the middleware that the tests run with."""

import os

import pytest

from lw_refinenet_ros.node.process.middleware import DEFAULT

IS_FAST_DDS = (os.environ.get('RMW_IMPLEMENTATION') or DEFAULT) == DEFAULT
# rmw_cyclonedds numbers no messages, pads what it serializes otherwise, and has settings of its own.
fast_dds_only = pytest.mark.skipif(not IS_FAST_DDS, reason='of Fast DDS alone')
