"""The command that does a run again, as one would type it."""

import re
import shlex
from collections.abc import Sequence

from benexp.config.quoting import quote


def command(overrides: Sequence[str], *flags: str) -> str:
    """`benexp` with the flags and overrides in Hydra's grammar, for a shell, which leaves Hydra's quotes to benexp.

    >>> command(["tile_folder='/data/a, b'", "++backend.threads=2", "mask.scl=[3,8]"])
    "benexp tile_folder='/data/a, b' backend.threads=2 mask.scl='[3,8]'"
    """
    return " ".join(["benexp", *flags, *map(typed, overrides)])


def typed(override: str) -> str:
    """An override in Hydra's grammar as one would type it in a shell."""
    key, equals, value = _plain(override).partition("=")
    return f"{shlex.quote(key)}{equals}{_quoted(value) if value else ''}"


def _quoted(value: str) -> str:
    """For a shell, an apostrophe in double quotes, where nothing in them means anything to one."""
    return f'"{value}"' if "'" in value and not re.search(r'["$`\\!]', value) else shlex.quote(value)


def _plain(override: str) -> str:
    """What `quote` makes this override of; itself, where that is not to be told."""
    key, _, value = override.partition("=")
    inner = value[1:-1]
    escaped = inner.replace("\\'", "'").replace("\\${", "${")
    known = (f"{key.removeprefix('++')}={value}", f"{key}={escaped}", f"{key}={value.replace(chr(39), '')}")
    return next((plain for plain in known if plain != override and quote(plain) == override), override)
