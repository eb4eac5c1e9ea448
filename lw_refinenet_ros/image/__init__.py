# SPDX-License-Identifier: Apache-2.0
"""Pixel formats, the CDR view of an Image, colours and label PNGs."""
