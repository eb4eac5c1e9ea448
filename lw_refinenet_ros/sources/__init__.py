# SPDX-License-Identifier: Apache-2.0
"""Bags, videos, folders and cameras as one stream of stamped frames, and the bag writer."""
