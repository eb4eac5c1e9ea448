# SPDX-License-Identifier: Apache-2.0
"""One line of a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ['FAULT', 'OK', 'WARNING', 'Finding', 'fault', 'ok', 'warning']

OK, WARNING, FAULT = 'ok', 'warning', 'fault'


@dataclass(frozen=True)
class Finding:
    """What was examined, what was found, and what to do about it."""

    level: str  # OK, WARNING or FAULT
    check: str  # what was examined
    value: str  # what was found
    remedy: str = ''  # what to do; empty where nothing has to be done


def ok(check: str, value: str) -> Finding:
    """Return a finding that needs no remedy."""
    return Finding(OK, check, value)


def warning(check: str, value: str, remedy: str) -> Finding:
    """Return a finding that may be intended."""
    return Finding(WARNING, check, value, remedy)


def fault(check: str, value: str, remedy: str) -> Finding:
    """Return a finding that keeps something from working."""
    return Finding(FAULT, check, value, remedy)
