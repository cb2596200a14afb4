"""Show results in a browser, GeoTIFFs pixel by pixel: `benexp task=serve output_folder=...`."""

import logging
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from benexp.config.schema import Config
from benexp.core.errors import BenexpError
from benexp.serving.server import FolderServer
from benexp.serving.start_page import start_page

log = logging.getLogger("benexp")

LIBRARY = "vendor/geotiff/geotiff.js"


def made(folder: Path) -> dict[str, tuple[str, Callable[[], bytes]]]:
    """The content served beside the folder's files: the start page, and the library with which pages read GeoTIFFs."""
    library = resources.files("benexp.report") / LIBRARY
    return {
        "/": ("text/html", lambda: start_page(folder)),
        "/-/geotiff.js": ("text/javascript", lambda: library.read_bytes()),
    }


def run(config: Config, overrides: Sequence[str], say: Callable[[str], object]) -> list[dict[str, Any]]:
    """Serve the output folder until Ctrl-C or SIGTERM; no records.

    Raises BenexpError where there is none, or no port for it.
    """
    folder = Path(config.output_folder)
    if not folder.is_dir():
        raise BenexpError(f"output_folder={folder}: is no folder: name one with results")
    with FolderServer(folder, config.serve.host, config.serve.port, made(folder)) as server:
        if not server.is_local:
            log.warning(
                "serve.host=%s: whoever reaches this machine can read %s; the usual 127.0.0.1 keeps it to yourself",
                config.serve.host,
                folder,
            )
        say(f"{folder} is at {server.url} until Ctrl-C")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("stopped")
    return []
