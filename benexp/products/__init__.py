"""Finding and opening products, and reading them as tiles on one 10 m grid."""

from benexp.products.finding import find_products, open_product
from benexp.products.product import BandFile, Product, resolve_offsets

__all__ = ["BandFile", "Product", "find_products", "open_product", "resolve_offsets"]
