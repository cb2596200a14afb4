"""What is printed while bars are drawn stands on lines of its own."""

import os
import pty
import re
import subprocess
import sys

CODE = """
import fcntl, logging, struct, sys, termios
fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
from benexp.core.console import print_text, set_up_logging
from benexp.core.progress import progress
set_up_logging()
for tile in progress(["a", "b"], desc="tiles"):
    for patch in progress(range(3), desc="classify"):
        pass
    print_text(f"{tile} is done")
    logging.getLogger("benexp").warning("%s is odd", tile)
"""


def test_text_stands_above_the_bars_and_one_bar_stays() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", CODE], stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL):
        os.close(theirs)
        printed = b""
        while piece := _read(ours):
            printed += piece
    os.close(ours)
    lines = _shown(printed.decode())
    assert [line for line in lines if line and not line.startswith("tiles")] == [
        "a is done",
        "benexp: warning: a is odd",
        "b is done",
        "benexp: warning: b is odd",
    ]
    assert sum("100%" in line for line in lines) == 1


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Nobody writes there any more.
        return b""


def _shown(printed: str) -> list[str]:
    """The lines that a terminal shows after what was printed; one up is the only sequence it must know."""
    lines, row, col = [""], 0, 0
    for piece in re.findall(r"\x1b\[A|\r|\n|[^\x1b\r\n]+", printed):
        if piece == "\x1b[A":
            row -= 1
        elif piece == "\r":
            col = 0
        elif piece == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        else:
            lines[row] = lines[row][:col].ljust(col) + piece + lines[row][col + len(piece) :]
            col += len(piece)
    return [line.strip() for line in lines]
