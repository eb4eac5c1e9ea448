# SPDX-License-Identifier: Apache-2.0
"""Networks, their weights files, and exact rewrites for inference; torch only."""
