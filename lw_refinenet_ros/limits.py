# SPDX-License-Identifier: Apache-2.0
"""Bounds on images that several rooms share; docs/security.md lists every bound."""

__all__ = ['MAX_PIXELS', 'MAX_SIDE']

MAX_SIDE = 16384  # pixels; no camera comes near, a damaged header may
MAX_PIXELS = 1 << 25  # of one image, a frame of 8K video; the network takes 130 bytes of memory for each
