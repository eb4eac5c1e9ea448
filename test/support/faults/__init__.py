# SPDX-License-Identifier: Apache-2.0
"""Faults that a test provokes a few times and `python -m benchmark.faults` thousands of times."""
