"""Finding and opening products, and reading them as tiles on one 10 m grid."""

from benexp.products.finding import find_products, open_product
from benexp.products.offsets import resolve_offsets
from benexp.products.product import BandFile, Product
from benexp.products.tile import Tile, open_tile

__all__ = ["BandFile", "Product", "Tile", "find_products", "open_product", "open_tile", "resolve_offsets"]
