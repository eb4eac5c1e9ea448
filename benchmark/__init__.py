# SPDX-License-Identifier: Apache-2.0
"""The benchmarks behind the figures in the documentation; `python -m benchmark` runs them all."""
