"""The command that repeats a run, for a shell."""

import re
import shlex
from collections.abc import Sequence

from benexp.config.quoting import quote


def command(overrides: Sequence[str], *flags: str) -> str:
    """`benexp` with flags and overrides, which are given in Hydra's grammar and come out quoted for a shell.

    >>> command(["tile_folder='/data/a, b'", "++backend.threads=2", "mask.scl=[3,8]"])
    "benexp tile_folder='/data/a, b' backend.threads=2 mask.scl='[3,8]'"
    """
    return " ".join(["benexp", *flags, *map(shell_quoted, overrides)])


def shell_quoted(override: str) -> str:
    """An override in Hydra's grammar, quoted for a shell instead of for Hydra."""
    key, equals, value = _unquoted(override).partition("=")
    return f"{shlex.quote(key)}{equals}{_in_quotes(value) if value else ''}"


def _in_quotes(value: str) -> str:
    """The value quoted for a shell; in double quotes where it has an apostrophe and nothing that a shell expands."""
    return f'"{value}"' if "'" in value and not re.search(r'["$`\\!]', value) else shlex.quote(value)


def _unquoted(override: str) -> str:
    """The text from which `quote` makes this override; the override itself where none is found."""
    key, _, value = override.partition("=")
    inner = value[1:-1]
    escaped = inner.replace("\\'", "'").replace("\\${", "${")
    known = (f"{key.removeprefix('++')}={value}", f"{key}={escaped}", f"{key}={value.replace(chr(39), '')}")
    return next((plain for plain in known if plain != override and quote(plain) == override), override)
