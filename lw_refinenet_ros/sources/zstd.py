# SPDX-License-Identifier: Apache-2.0
"""Zstandard: part of Python from 3.14 on, before that a package that rosbags brings."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ['MAGIC', 'zstd']

MAGIC = b'\x28\xb5\x2f\xfd'  # begins whatever is compressed, and no CDR
