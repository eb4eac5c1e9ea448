# SPDX-License-Identifier: Apache-2.0
"""Handle SIGINT and SIGTERM so that neither is ever lost.

A signal raises `Interrupted` in the main thread, at any line. Python drops an
exception raised in a destructor, in a callback of a weak reference (every import has one) or in a hook of
fork, and some libraries do so as well. The signal is therefore remembered and raised again until the command
unwinds. During an import it waits: what C++ code runs there, such as PyTorch's, aborts on an exception.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ['Interrupted', 'forget', 'held', 'run_interruptible']

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGAIN_S = 0.2  # until a dropped signal is raised again


class Interrupted(KeyboardInterrupt):
    """The signal of this number ended the command."""

    def __init__(self, number: int) -> None:
        super().__init__(f'signal {number}')
        self.number = number


class _State:
    """The first signal received and the number of blocks holding it back, for the whole process."""

    came: Interrupted | None = None
    holds = 0


def run_interruptible(command: Callable[[], int]) -> int:
    """Run the command of this process and restore the default signal handling at its end.

    An ignored signal stays ignored: shells start the background jobs of a script that way, so that
    Ctrl-C does not end them.

    Args:
        command: returns its exit status.

    Returns:
        Its status; 130 after SIGINT and 143 after SIGTERM, unless the command called `forget`.
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
        _State.holds += 1  # from here on, signals are only remembered
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
    """Hold signals back during work that must not be interrupted."""
    _State.holds += 1
    try:
        yield
    finally:
        _State.holds -= 1
    _raise()


def forget() -> None:
    """Forget the signal that has ended the command's work, so that the command's own status counts."""
    _State.came = None


def _interrupt(number: int, frame: FrameType | None) -> None:
    if number != signal.SIGALRM and _State.came is None:
        _State.came = Interrupted(number)
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S, AGAIN_S)
    if not _imports(frame):
        _raise()


def _imports(frame: FrameType | None) -> bool:
    """Tell whether the command is importing a module."""
    while frame is not None and frame.f_code is not run_interruptible.__code__:
        if frame.f_code.co_filename.startswith('<frozen importlib'):
            return True
        frame = frame.f_back
    return False


def _raise() -> None:
    """Raise the remembered signal, unless it is held back or already unwinding the main thread."""
    error = sys.exc_info()[1]
    while error is not None and error is not _State.came:
        error = error.__context__
    if error is None and _State.came is not None and not _State.holds:
        raise _State.came


def _without_interrupts(
    hook: Callable[[sys.UnraisableHookArgs], object],
) -> Callable[[sys.UnraisableHookArgs], object]:
    """Return a hook that does not print dropped interrupts: they are raised again."""

    def report(dropped: sys.UnraisableHookArgs) -> None:
        if not isinstance(dropped.exc_value, Interrupted):
            hook(dropped)

    return report
