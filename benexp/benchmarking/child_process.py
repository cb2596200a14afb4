"""Work in a process of its own, which sends its results message by message, and dies alone."""

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from typing import Any

PATIENCE = 10
"""Seconds in which a process that is asked to stop may tidy up."""


class ProcessDiedError(Exception):
    """A process ended before its work did; the message says how."""


def messages(module: str, request: Any) -> Generator[dict[str, Any], None, None]:
    """The messages of `python -m <module>`, which calls `answer`, on a request. Raises ProcessDiedError.

    Closing the iterator, or an interrupt, stops the process: it gets an interrupt of its own, and 10 s.
    """
    reading, writing = os.pipe()
    # What can be imported here can be there; -P keeps a folder that happens to be the current one out of it.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-P", "-m", module, str(writing)]
    # Not of this session: Ctrl-C reaches this process alone, which then knows what it stops.
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, pass_fds=(writing,), env=environment, start_new_session=True
    )
    os.close(writing)
    assert process.stdin
    try:
        with open(reading, encoding="utf-8") as lines:
            with contextlib.suppress(BrokenPipeError):  # it died at once, and the exit code says so
                process.stdin.write(pickle.dumps(request))
                process.stdin.flush()
            for line in lines:
                if line.endswith("\n"):  # else it was killed in the middle of it
                    yield json.loads(line)
        process.wait()
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.returncode:
        raise ProcessDiedError(_words(process.returncode))


def answer(work: Callable[[Any, Callable[[dict[str, Any]], None]], None]) -> None:
    """Be the process that `messages` started: do `work(request, send)`, until the other end is closed."""
    channel = int(sys.argv[1])
    os.set_inheritable(channel, False)
    os.dup2(2, 1)  # what libraries print is no result of the command
    request = pickle.load(sys.stdin.buffer)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_stop_with_parent, name="parent-watch", daemon=True).start()
    with open(channel, "w", encoding="utf-8") as lines:

        def send(message: dict[str, Any]) -> None:
            lines.write(json.dumps(message, default=str) + "\n")
            lines.flush()

        try:
            work(request, send)
        except KeyboardInterrupt:
            sys.exit(130)


def _stop_with_parent() -> None:
    """Interrupt this process when its parent closes the pipe, or dies."""
    os.read(0, 1)
    main = threading.main_thread().ident
    assert main
    signal.pthread_kill(main, signal.SIGINT)


def _words(code: int) -> str:
    if code > 0:
        return f"its process ended with exit code {code}"
    name = f"signal {-code}"
    with contextlib.suppress(ValueError):  # a signal without a name
        name = signal.Signals(-code).name
    hint = ": was memory short?" if name == "SIGKILL" else ""
    return f"its process was killed by {name}{hint}"
