# SPDX-License-Identifier: Apache-2.0
"""Evaluations, comparisons and runs as HTML pages: templates, and what fills them in."""
