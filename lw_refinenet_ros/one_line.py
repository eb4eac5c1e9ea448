# SPDX-License-Identifier: Apache-2.0
"""One-line messages, whatever the names in them contain."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from itertools import islice

__all__ = ['counted', 'first_of', 'one_line', 'printable', 'reason', 'unknown']

LONGEST = 500  # characters


def one_line(text: str) -> str:
    """Return text without line breaks and control characters, its middle left out if it is very long."""
    words = ' '.join(text.split())
    line = printable(words)
    half = LONGEST // 2
    return line if len(line) <= LONGEST else f'{line[:half]} ... {line[-half:]}'


def counted(number: int, noun: str, *verbs: str) -> str:
    """Return a number with its noun in the singular or the plural, and of two verbs the one that fits."""
    ending = '' if number == 1 else 'es' if noun.endswith('s') else 's'
    return ' '.join([f'{number} {noun}{ending}', *([verbs[number != 1]] if verbs else [])])


def first_of(problems: Collection[object], most: int = 1, separator: str = '; ') -> str:
    """Return the first problem or problems, and how many more there are."""
    more = f' (and {len(problems) - most} more)' if len(problems) > most else ''
    return f'{separator.join(map(str, islice(problems, most)))}{more}'


def reason(error: BaseException) -> str:
    """Return the text of an error, without the path that an OSError adds."""
    return str(getattr(error, 'strerror', None) or error)


def printable(text: str) -> str:
    """Replace every character that a terminal might interpret or cannot encode by U+FFFD."""
    return ''.join(c if c.isprintable() else '\N{REPLACEMENT CHARACTER}' for c in text)


def unknown(what: str, name: object, known: Collection[str]) -> str:
    """Return the message for an unknown name of a kind, with the nearest known name and all of them."""
    nearest = difflib.get_close_matches(str(name).casefold(), known, 1)
    hint = f'did you mean {nearest[0]!r}? ' if nearest else ''
    return one_line(f'unknown {what} {name!r}: {hint}choose one of {", ".join(known)}')
