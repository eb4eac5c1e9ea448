# SPDX-License-Identifier: Apache-2.0
"""Overlays and colours, painted where the frame is already."""

from __future__ import annotations

import numpy as np
import torch

from lw_refinenet_ros.image.encodings import Order
from lw_refinenet_ros.inference.cuda.kernels import Paint
from lw_refinenet_ros.inference.cuda.pinned_memory import PinnedBuffer
from lw_refinenet_ros.inference.engine import Pixels

__all__ = ['Painter']


class Painter:
    """Paints frames of one size, one at a time, by a table.

    It is created in the recorder's thread, where its kernel is compiled.

    Args:
        size: (height, width) of the frames.
        order: of their channels.
        paint: the kernel.
        stream: what it runs on, after the graph that the frames are for.
        mapped: whether the device uses page-locked memory in place.
    """

    def __init__(
        self, size: tuple[int, int], order: Order, paint: Paint, stream: torch.cuda.Stream, *, mapped: bool
    ) -> None:
        self._order, self._paint, self._stream = order, paint, stream
        self._done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            self._address = PinnedBuffer((8,), stream.device, mapped=mapped)
            self._label = PinnedBuffer(size, stream.device, mapped=mapped)
            self._table = PinnedBuffer((256, 256, 3), stream.device, mapped=False)
            self._painted = PinnedBuffer((*size, 3), stream.device, mapped=mapped)
        self._last_table: Pixels | None = None
        label, table = np.zeros_like(self._label.host), np.zeros_like(self._table.host)
        self.paint(self._painted.device.data_ptr(), label, table, self._painted.host)

    def paint(self, address: int, label: Pixels, table: Pixels, out: Pixels) -> None:
        """Look each byte of a frame up.

        Args:
            address: of the frame on the device.
            label: uint8 (H, W).
            table: uint8 (256, 256, 3), from `blend_table`.
            out: uint8 (H, W, 3); the RGB result is written there.
        """
        with torch.cuda.stream(self._stream):
            if table is not self._last_table:
                self._last_table = table
                np.copyto(self._table.host, table)
                self._table.upload()
            self._address.host.view(np.int64)[0] = address
            np.copyto(self._label.host, label)
            for buffer in (self._address, self._label):
                buffer.upload()
            self._paint(
                self._address.device.view(torch.int64),
                *(self._label.device, self._table.device, self._order, self._painted.device),
            )
            self._painted.download()
            self._done.record()
        self._done.synchronize()
        np.copyto(out, self._painted.host)
