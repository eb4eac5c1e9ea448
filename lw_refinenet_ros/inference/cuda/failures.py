# SPDX-License-Identifier: Apache-2.0
"""What an error of a CUDA device means."""

from __future__ import annotations

import traceback

import torch

from lw_refinenet_ros.inference.cuda.captured_job import in_recorder

__all__ = ['device_answers', 'first_line', 'is_of_triton', 'is_out_of_memory']

LITTLE_MEMORY = 512 * 2**20  # bytes free; below, "no engine for this convolution" means "no memory for one"


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it came of, is that a CUDA device had no memory left."""
    while error is not None:
        text = str(error)
        if (
            isinstance(error, torch.cuda.OutOfMemoryError)
            or any(words in text for words in ('out of memory', 'ALLOC_FAILED', 'ALLOCATION_FAILED'))
            or ('unable to find an engine' in text and _free_memory() < LITTLE_MEMORY)
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


def _free_memory() -> int:
    """Return the bytes of the current device that nobody has."""
    free, _ = torch.cuda.mem_get_info()
    return int(free)


def device_answers() -> bool:
    """Whether the device still does anything: an error that sticks comes back from every call."""
    try:
        in_recorder(torch.cuda.synchronize)
    except RuntimeError:
        return False
    return True


def is_of_triton(error: BaseException) -> bool:
    """Whether a kernel does not build or start on this device: an error of Triton's, or of what it called."""
    modules = [frame.f_globals.get('__name__', '') for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(name.partition('.')[0] == 'triton' for name in modules) and not is_out_of_memory(error)


def first_line(error: BaseException) -> str:
    """Return the kind of an error and the first line of what it says."""
    return f'{type(error).__name__}: {str(error).partition(chr(10))[0]}'
