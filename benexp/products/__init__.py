"""Finding and opening products, and reading them as tiles on one 10 m grid."""

from benexp.products.finding import find_products, open_product
from benexp.products.offsets import decide_offsets
from benexp.products.product import BandFile, Product
from benexp.products.tile import Tile, open_tile

__all__ = ["BandFile", "Product", "Tile", "decide_offsets", "find_products", "open_product", "open_tile"]
