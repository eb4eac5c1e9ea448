# SPDX-License-Identifier: Apache-2.0
"""SIGINT and SIGTERM end a command, and neither of them is ever lost.

A signal raises `Interrupted` in the main thread, at whatever line that has reached. Python drops an
exception raised in a destructor, in a callback of a weak reference (every import has one) or in a hook of
fork, and some libraries drop it as well. So the signal is remembered, and raised again until the command
unwinds because of it.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ['Interrupted', 'held', 'run_interruptible']

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGAIN_S = 0.2  # after which a signal that was dropped is raised again


class Interrupted(KeyboardInterrupt):
    """A signal ended the command.

    Attributes:
        number: of the signal.

    """

    def __init__(self, number: int) -> None:
        super().__init__(f'signal {number}')
        self.number = number


class _State:
    """The first signal that came, and how many blocks hold it back; of the process, as signals are."""

    came: Interrupted | None = None
    holds = 0


def run_interruptible(command: Callable[[], int]) -> int:
    """Run the command of this process; from its end on signals end the process as the system does.

    A signal that is ignored stays ignored: a shell starts the background jobs of a script that way, so that
    Ctrl-C does not end them.

    Args:
        command: gives its exit status.

    Returns:
        Its status; 130 or 143 after SIGINT or SIGTERM, whatever became of the command.

    """
    if threading.current_thread() is not threading.main_thread():
        return command()
    numbers = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    sys.unraisablehook = _without_interrupts(sys.unraisablehook)
    signal.signal(signal.SIGALRM, _interrupt)
    for number in numbers:
        signal.signal(number, _interrupt)
    try:
        status = command()
        _State.holds += 1
    except BaseException:
        _State.holds += 1  # from here on a signal is only remembered
        if _State.came is None:
            raise
        status = 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
    return status if _State.came is None else 128 + _State.came.number


@contextmanager
def held() -> Iterator[None]:
    """Hold signals back while something is done that must not be left half done, and no longer."""
    _State.holds += 1
    try:
        yield
    finally:
        _State.holds -= 1
    _raise()


def _interrupt(number: int, _: FrameType | None) -> None:
    if number != signal.SIGALRM and _State.came is None:
        _State.came = Interrupted(number)
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S, AGAIN_S)
    _raise()


def _raise() -> None:
    """Raise what came, unless it is held back or the main thread unwinds because of it."""
    error = sys.exc_info()[1]
    while error is not None and error is not _State.came:
        error = error.__context__
    if error is None and _State.came is not None and not _State.holds:
        raise _State.came


def _without_interrupts(
    hook: Callable[[sys.UnraisableHookArgs], object],
) -> Callable[[sys.UnraisableHookArgs], object]:
    """Give a hook that does not print the interrupts that Python drops: they come again."""

    def say(dropped: sys.UnraisableHookArgs) -> None:
        if not isinstance(dropped.exc_value, Interrupted):
            hook(dropped)

    return say
