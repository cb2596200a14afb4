"""The products that a configuration names, the tiles they open as, and the folders of their results."""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from benexp.config.schema import Config
from benexp.core.disk_limits import reason
from benexp.core.errors import BenexpError
from benexp.core.files import alone_in
from benexp.products import find_products, open_product, open_tile
from benexp.products.tile import Tile

LONGEST_NAME = 200
"""Bytes of a tile's name: file systems take 255, and results add those of a layer's name and more."""

log = logging.getLogger("benexp")


def products(config: Config) -> list[Path]:
    """The products that the configuration names, of which there is one at least; a made-up one is written now."""
    asked = {"tile_folder": config.tile_folder, "input_dir": config.input_dir, "demo.size": config.demo.size}
    named = [key for key, value in asked.items() if value]
    if len(named) != 1:
        raise BenexpError(
            f"{' and '.join(named)} exclude each other: name one"
            if named
            else "tile_folder= is missing: name a product, a folder of products with input_dir=, or say experiment=demo"
        )
    if config.demo.size:
        from benexp.demo.product import write_product

        with output_folder(Path(config.output_folder)):
            return [write_product(Path(config.output_folder) / "products", config.demo.size, config.demo.seed)[0]]
    if config.input_dir:
        return find_products(Path(config.input_dir).expanduser())
    assert config.tile_folder
    path = Path(config.tile_folder)
    path = path if path.exists() else path.expanduser()
    open_product(path)  # a wrong path is told before weights are fetched for it
    return [path]


@dataclasses.dataclass(frozen=True)
class Reading:
    """The settings that decide which pixels a tile has and which of them are valid."""

    offset: int | str
    offset_override: bool
    saturated: str
    scl_mask: tuple[int, ...]
    name_filled_offsets: bool
    """Name each product that `offset` stands in for: one number is given for many products."""

    @classmethod
    def of(cls, config: Config) -> "Reading":
        """The settings of a configuration."""
        return cls(
            config.offset,
            config.offset_override,
            config.saturated,
            tuple(config.mask.scl),
            bool(config.input_dir),
        )


def open_input(product: Path, reading: Reading, bands: Sequence[str], *, warn: bool = True) -> Tile:
    """The product as a tile; with `warn` its warnings are logged."""
    tile = open_tile(
        open_product(product),
        bands,
        offset=reading.offset,
        offset_override=reading.offset_override,
        keep_saturated=reading.saturated == "keep",
        scl_mask=reading.scl_mask,
    )
    for warning in tile.warnings if warn else ():
        log.warning("%s: %s", tile.name, warning)
    if warn and reading.name_filled_offsets and tile.offset_decision.filled_in:
        log.warning("%s: states no offset of its own: offset=%s is used", tile.name, reading.offset)
    return tile


def tile_folder(output_folder: Path, product: Path, tile: Tile) -> Path:
    """The folder of a tile: of its saved answers, and of the results for the whole of it.

    Raises BenexpError where that is a link or lies inside the product, or the names of results would be too long.
    """
    if len(os.fsencode(tile.name)) > LONGEST_NAME:
        raise BenexpError(f"{product}: its results, which begin with its name, would have too long names: rename it")
    folder = output_folder / tile.name
    if folder.is_symlink():
        raise BenexpError(
            f"{folder} is a link, to {folder.resolve()}: remove it, or name a folder there with output_folder="
        )
    if folder.resolve().is_relative_to(product.resolve()):
        raise BenexpError(f"output_folder={output_folder}: results would lie inside {product}")
    return folder


@contextlib.contextmanager
def output_folder(folder: Path) -> Iterator[None]:
    """Make the folder; turn the system's refusal to write in it into one line, and leave no empty one behind."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            yield
        finally:
            _remove_empty(folder)
    except OSError as error:
        raise BenexpError(f"{error.filename or folder}: cannot be written: {reason(error)}") from error


@contextlib.contextmanager
def output_folder_alone(folder: Path) -> Iterator[None]:
    """Make the folder and hold its lock, leaving no empty one behind. Raises BenexpError while another run holds it."""
    with contextlib.ExitStack() as held:
        held.callback(_remove_empty, folder)
        with output_folder(folder):
            held.enter_context(alone_in(folder))
        yield


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not empty: there are results, of this run or an earlier one
        folder.rmdir()
