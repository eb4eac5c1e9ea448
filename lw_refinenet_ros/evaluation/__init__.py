# SPDX-License-Identifier: Apache-2.0
"""Metrics, pairing by stamp, and reports."""
