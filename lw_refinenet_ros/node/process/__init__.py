# SPDX-License-Identifier: Apache-2.0
"""The process around the node: its start, memory, signals and parameter files."""
