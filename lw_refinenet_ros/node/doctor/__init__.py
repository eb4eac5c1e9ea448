# SPDX-License-Identifier: Apache-2.0
"""Examines a running system: collects facts, then judges them."""
