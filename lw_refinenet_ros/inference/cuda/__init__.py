# SPDX-License-Identifier: Apache-2.0
"""The engine on CUDA: graphs, page-locked memory and kernels."""
