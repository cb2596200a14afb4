"""The parts of self-contained pages: styles, scripts, and the policy that limits what a page may do."""

import base64
import hashlib
import os
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files as resources
from pathlib import PurePath
from urllib.parse import quote

import jinja2
from markupsafe import Markup


def styles(names: Sequence[str]) -> Markup:
    """Style sheets, by their places in this package, as they go into a page."""
    return Markup("\n".join(map(_text, names)))


@cache
def script(name: str) -> Markup:
    """A script as it goes into a page: a library with its licence, without the address of its source map."""
    text = _text(name)
    if name.startswith("vendor/"):
        licence = _text(f"{name.rpartition('/')[0]}/LICENSE.md")
        text = f"/*\n{licence}*/\n" + re.sub(r"^//# sourceMappingURL=.*$", "", text, flags=re.MULTILINE)
    return Markup(text)


def script_hashes(scripts: Sequence[str]) -> str:
    """The sources in a page's content security policy that allow exactly these scripts."""
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)


def address(place: PurePath) -> str:
    """A place as it goes into a link, whatever bytes its name is made of."""
    return quote(os.fsencode(place.as_posix()))


def size(count: int) -> str:
    """Bytes for people: `12 B`, `3.4 kB`, `5.6 MB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        # What would be rounded to 1000 of a unit is 1 of the next.
        if count >= 0.99995 * factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count} B"


def encoded(html: str) -> bytes:
    """A page as it is sent and saved; of a name that is not UTF-8 the bytes that are none are question marks."""
    return html.encode("utf-8", "replace")


def template(name: str) -> jinja2.Template:
    """A page's template, which escapes what it is given."""
    return _environment().get_template(name)


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("benexp.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _text(name: str) -> str:
    return resources("benexp.report").joinpath(name).read_text(encoding="utf-8")
