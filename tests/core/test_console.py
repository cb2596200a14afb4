"""Text for the terminal."""

import subprocess
import sys


def test_messages_are_one_line_that_no_terminal_obeys() -> None:
    code = (
        "from benexp.core.console import log, set_up_logging; set_up_logging();"
        "log.error('Zürich: %s', 'a\\nb \\x1b[2J \\u202e \\udcff c')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert ran.stderr == "benexp: error: Zürich: a\\nb \\x1b[2J \\u202e \\udcff c\n"
