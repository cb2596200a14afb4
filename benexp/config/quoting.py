"""The quoting of overrides for Hydra's grammar."""

import os
import re
from pathlib import Path

from benexp.core.errors import BenexpError
from benexp.core.files import is_text

PATH_KEYS = (
    *("tile_folder", "input_dir", "output_folder", "model.path"),
    *("evaluate.patches", "evaluate.metadata", "evaluate.reference", "evaluate.map"),
)
OPEN_KEYS = ("backend.", "layers.extra")
"""Users' own classes and functions have further keys below these, which Hydra takes only with a ++."""


def quote(argument: str) -> str:
    """An override as users type it, quoted for Hydra: paths, whose characters its grammar would parse, and `null`.

    Raises BenexpError where it is not UTF-8.

    >>> quote("tile_folder=/data/a, b")
    "tile_folder='/data/a, b'"
    """
    if not is_text(argument):
        # Records and pages show the command, and could not be written when all is done.
        raise BenexpError(f"{argument}: is not in UTF-8: rename what it names")
    key, equals, value = argument.partition("=")
    if key.startswith(OPEN_KEYS):
        return f"++{argument}"
    if key in ("backend", "backends"):
        return re.sub(r"(?<=[=,\[])null(?=[],]|$)", "'null'", argument)
    if not equals or key.lstrip("+") not in PATH_KEYS or value in ("null", ""):
        return argument
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" and not Path(value).exists():
        return argument  # quoted for Hydra already
    if key == "output_folder":
        value = os.path.expanduser(value)  # Hydra makes folders in it by its name
    # Hydra unescapes a backslash only before a quote, at the end of the text, and before an interpolation.
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
    return f"{key}='{escaped.replace('${', chr(92) + '${')}'"
