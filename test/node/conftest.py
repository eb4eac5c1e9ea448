# SPDX-License-Identifier: Apache-2.0
"""Fixtures that tests of the node share."""

from pathlib import Path

import pytest


@pytest.fixture(scope='module')
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that says 'open' and makes a node wait that was started to watch it."""
    path = tmp_path_factory.mktemp('gate') / 'gate'
    path.write_text('open')
    return path
