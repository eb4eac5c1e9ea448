# SPDX-License-Identifier: Apache-2.0
"""Memory settings of processes that handle megabytes per frame."""

from __future__ import annotations

import ctypes
import gc
import os
from contextlib import suppress

__all__ = ['give_back_freed', 'keep_few_kernels', 'keep_large_allocations']

# glibc's mallopt parameters, from malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -2, -3, -8
ARENAS = 1  # models that come and go would fragment as many as there are
KERNELS = 128  # that oneDNN keeps; PyTorch needs 40 to 50 for a network and an image size


def keep_large_allocations() -> None:
    """Let glibc's malloc keep freed blocks of any size: an image per frame then costs no page faults.

    Comes before the imports that start threads, each of which may take an arena. Does nothing where the C
    library has no mallopt.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    for parameter, value in (
        (M_MMAP_THRESHOLD, 1 << 30),
        (M_TRIM_THRESHOLD, 1 << 30),
        (M_TOP_PAD, 64 << 20),
        (M_ARENA_MAX, ARENAS),
    ):
        mallopt(parameter, value)


def keep_few_kernels() -> None:
    """Bound oneDNN's cache of compiled kernels, which grows with each new size of image or network.

    Its usual 1024 take up to 100 MB, scattered over the heap, and OpenVINO compiles no faster with them.
    Comes before the first model. A capacity set in the environment stands.
    """
    os.environ.setdefault('ONEDNN_PRIMITIVE_CACHE_CAPACITY', str(KERNELS))


def give_back_freed() -> None:
    """Return freed memory to the system, that of a model's reference cycles included.

    Takes some 25 ms for 300 MB. Where the C library has no malloc_trim, malloc keeps what is freed.
    """
    gc.collect()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
