"""Flat folders of band files: `B02.tif`, `*_B02.jp2`, `*_B02_10m.jp2`; with SCL and MTD XML where there are."""

from benexp.products.product import BandFile, Product, make_product, parse_band_file
from benexp.products.source import Source


def band_files(source: Source) -> list[BandFile]:
    """The band files that lie directly in the folder."""
    parsed = [(name, parse_band_file(name)) for name in source.names if "/" not in name]
    return [BandFile(found.band, source.gdal(name), found.resolution, name) for name, found in parsed if found]


def open_folder(source: Source) -> Product:
    """The product of a flat folder. Raises BenexpError if two files claim to be the same band."""
    files = band_files(source)
    return make_product(source, files, "folder", names=[source.name, *(file.file for file in files)])
