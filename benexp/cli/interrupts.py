"""Ctrl-C and SIGTERM: the end at once while modules load, a KeyboardInterrupt once there is work to leave tidy."""

import os
import signal
from collections.abc import Callable
from types import FrameType

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "stopped by SIGTERM"}
GOES_ON = "the same command goes on from here"

_Handler = Callable[[int, FrameType | None], None]
_received: list[signal.Signals] = []


def install() -> None:
    """Handle the signals, as in `end_at_once`. Without this call the other functions change nothing.

    Ignored signals, as under nohup or in the background of a script, stay ignored.
    """
    for number in WORDS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end_at_once)


def end_at_once() -> None:
    """From here on a signal ends the process with one line, or with none after an earlier signal.

    Nothing is raised: numpy and others turn a KeyboardInterrupt in the middle of their import into tracebacks.
    """
    _replace(_raise, _end_at_once)


def raise_interrupts() -> None:
    """From here on both signals raise KeyboardInterrupt."""
    _replace(_end_at_once, _raise)


def is_interrupt(error: BaseException) -> bool:
    """True for a KeyboardInterrupt, and for the exception that a library made of one."""
    return isinstance(error, KeyboardInterrupt) or bool(_received)


def message(interrupt: BaseException) -> str:
    """One line: the signal, and the notes of the KeyboardInterrupt."""
    notes: list[str] = getattr(interrupt, "__notes__", [])
    return "; ".join([WORDS[_last()], *notes])


def exit_code() -> int:
    """128 + the number of the signal, as shells count: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + _last()


def _last() -> signal.Signals:
    return _received[-1] if _received else signal.SIGINT


def _replace(handler: _Handler, by: _Handler) -> None:
    for number in WORDS:
        if signal.getsignal(number) is handler:
            signal.signal(number, by)


def _end_at_once(number: int, _: FrameType | None) -> None:
    if not _received:
        os.write(2, f"benexp: error: {WORDS[signal.Signals(number)]}\n".encode())
    os._exit(128 + number)


def _raise(number: int, _: FrameType | None) -> None:
    _received.append(signal.Signals(number))
    raise KeyboardInterrupt
