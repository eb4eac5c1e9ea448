# SPDX-License-Identifier: Apache-2.0
"""The tables behind the figures in the documentation; `python -m benchmark` makes them all."""
