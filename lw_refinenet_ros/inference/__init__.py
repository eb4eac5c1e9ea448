# SPDX-License-Identifier: Apache-2.0
"""Pixels in, Segmentation out."""
