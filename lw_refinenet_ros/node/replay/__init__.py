# SPDX-License-Identifier: Apache-2.0
"""Play recordings to the node, and record its answers."""
