# SPDX-License-Identifier: Apache-2.0
"""What tests and benchmarks share: bags, tiny networks, the node in a process of its own, faults."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
