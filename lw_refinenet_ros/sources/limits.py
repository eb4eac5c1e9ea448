# SPDX-License-Identifier: Apache-2.0
"""What is read of a bag at most, whatever its files say of themselves; docs/security.md lists it."""

from __future__ import annotations

__all__ = [
    'MAX_CHUNK_BYTES',
    'MAX_FILE_BYTES',
    'MAX_FILE_RATIO',
    'MAX_MESSAGE_BYTES',
    'MAX_METADATA_BYTES',
    'MAX_RECORD_HEADER_BYTES',
    'MIN_FILE_BYTES',
    'MIN_STEPS',
]

MAX_MESSAGE_BYTES = 256 << 20  # unpacked; an image of 8K in 16-bit colours has 200 MB; also of an image file
MAX_CHUNK_BYTES = 512 << 20  # of an mcap file or ROS 1 bag, unpacked; also what chunks that overlap may hold
MAX_FILE_BYTES = 64 << 30  # of a file that is compressed as a whole, unpacked to the disk, but no more than
MAX_FILE_RATIO = 256  # times its size, where that is more than
MIN_FILE_BYTES = 1 << 30
MAX_METADATA_BYTES = 4 << 20  # of metadata.yaml: a bag of 10 000 files has 2 MB
MAX_RECORD_HEADER_BYTES = 1 << 20  # of a record of a ROS 1 bag
# Instructions of SQLite in one pass: these, and one for each byte of the file. Listing a row takes about 15.
MIN_STEPS = 10_000_000
