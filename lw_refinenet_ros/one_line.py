# SPDX-License-Identifier: Apache-2.0
"""Messages about damaged files, whatever these contain, as one line of a log."""

__all__ = ['one_line']

LONGEST = 500  # characters


def one_line(text: str) -> str:
    """Give text without line breaks and control characters, its middle left out if it is very long."""
    words = ' '.join(text.split())
    line = ''.join(c if c.isprintable() else '\N{REPLACEMENT CHARACTER}' for c in words)
    half = LONGEST // 2
    return line if len(line) <= LONGEST else f'{line[:half]} ... {line[-half:]}'
