# SPDX-License-Identifier: Apache-2.0
"""Page-locked memory that pixels pass through on their way to a CUDA device and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lw_refinenet_ros.inference.engine import EngineError, Pixels

__all__ = ['FrameBuffer', 'Frames', 'PinnedBuffer', 'page_locked']


class Frames(NamedTuple):
    """Frames as kernels take them."""

    pixels: Tensor  # uint8 (N, H, W, 3); PyTorch's kernels read them here
    addresses: Tensor  # int64 (N,), of each frame's first byte; Triton's kernels read them there


def page_locked(*shape: int) -> Tensor:
    """Return uninitialised bytes of the host that a CUDA device reads and writes by itself.

    Raises:
        RuntimeError: the system does not lock that much.
    """
    return torch.empty(shape, dtype=torch.uint8, pin_memory=True)


class PinnedBuffer:
    """Bytes that host and device both have, allocated once.

    Args:
        shape: of the bytes.
        device: a CUDA device.
        mapped: whether the device uses the host's memory in place. On an integrated GPU, which shares its
            memory with the CPU, this saves the copy; elsewhere each access crosses the bus.

    Attributes:
        host: uint8, what the host reads and writes; page-locked.
        device: uint8 of the same shape, what kernels read and write.

    Raises:
        EngineError: the device cannot use the host's memory in place.
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device, *, mapped: bool) -> None:
        self._host = page_locked(*shape)
        self._mapped = mapped
        self.host: Pixels = self._host.numpy()
        self.device = (
            _map(self._host, device) if mapped else torch.empty(shape, dtype=torch.uint8, device=device)
        )

    def upload(self) -> None:
        """Bring the host's bytes to the device, in the order of the current stream."""
        if not self._mapped:
            self.device.copy_(self._host, non_blocking=True)

    def download(self) -> None:
        """Bring the device's bytes to the host, in the order of the current stream."""
        if not self._mapped:
            self._host.copy_(self.device, non_blocking=True)


class FrameBuffer(PinnedBuffer):
    """The memory of a job's frames; those in page-locked memory of their own pass the host's by.

    Args:
        shape: (N, H, W, 3).
        device: a CUDA device.
        mapped: whether the device reads frames in place.
        addressed: whether the kernels read at the addresses of `Frames`.

    Attributes:
        frames: what kernels take.
        addresses: int64 (N,), where the device finds each frame now.
    """

    def __init__(
        self, shape: tuple[int, ...], device: torch.device, *, mapped: bool, addressed: bool
    ) -> None:
        super().__init__(shape, device, mapped=mapped)
        self._reads_anywhere = addressed or not mapped
        places = PinnedBuffer((8 * shape[0],), device, mapped=mapped)
        self.addresses = places.host.view(np.int64)
        self.addresses[:] = [frame.data_ptr() for frame in self.device]
        places.upload()
        self.frames = Frames(self.device, places.device.view(torch.int64))

    def load(self, images: Sequence[Pixels]) -> None:
        """Bring images to where the kernels read them, in the order of the current stream.

        Those in page-locked memory must stay there until the device is done.
        """
        for index, image in enumerate(images):
            source = torch.from_numpy(image)
            if not (self._reads_anywhere and source.is_pinned()):
                np.copyto(self.host[index], image)
                source = self._host[index]
            if self._mapped:
                self.addresses[index] = source.data_ptr()
            else:
                self.device[index].copy_(source, non_blocking=True)


def _map(host: Tensor, device: torch.device) -> Tensor:
    """Return page-locked memory as a tensor of the device, once the host has read what the device wrote."""
    mapped = torch.as_tensor(_DeviceMemory(host), device=device)
    mapped.fill_(1)
    torch.cuda.current_stream(device).synchronize()
    if not bool((host == 1).all()):
        name = torch.cuda.get_device_name(device)
        raise EngineError(
            f'{name} cannot use the memory of the host in place: make the engine with mapped=False'
        )
    return mapped


class _DeviceMemory:
    """Shows host memory by the protocol with which array libraries share device memory."""

    def __init__(self, host: Tensor) -> None:
        self._host = host  # lives as long as the tensors made from it
        self.__cuda_array_interface__: dict[str, Any] = {
            'shape': tuple(host.shape),
            'typestr': '|u1',
            'data': (host.data_ptr(), False),
            'strides': None,
            'version': 3,
        }
