# SPDX-License-Identifier: Apache-2.0
"""Bounds on images shared by several modules; docs/security.md lists all bounds."""

__all__ = ['MAX_NETWORK_SIDE', 'MAX_PIXELS', 'MAX_SIDE', 'STRIDE', 'fault_of_network_size']

MAX_SIDE = 16384  # pixels; beyond any camera, but not beyond a damaged header
MAX_PIXELS = 1 << 25  # per image, one frame of 8K video; the network needs 130 bytes for each
# Of network_height and network_width: an image up to twice as long as high then has at most `MAX_PIXELS`.
MAX_NETWORK_SIDE = 4096
STRIDE = 32  # of the coarsest feature map: pixels of an image per cell


def fault_of_network_size(height: int, width: int) -> str:
    """Return why the network cannot look at images at this size, 0 where it is free; '' if it can."""
    for name, side in (('network_height', height), ('network_width', width)):
        if side and side < STRIDE:
            return f'{name} {side} is smaller than one cell of the network: use 0 or at least {STRIDE}'
        if side > MAX_NETWORK_SIDE:
            return f'{name} {side} is above {MAX_NETWORK_SIDE}: use less'
    return ''
