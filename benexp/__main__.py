"""`python -m benexp` and the command `benexp`."""

import sys

from benexp.cli.interrupts import install


def main() -> None:
    """Answer `--help` without composing anything; otherwise run the task."""
    install()
    if {"-h", "--help"} & set(sys.argv[1:]):
        from benexp.cli.help import help_text

        print(help_text())
    else:
        from benexp.cli.app import main

        sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    main()
