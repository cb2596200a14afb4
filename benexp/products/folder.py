"""Flat folders of band files: `B02.tif`, `*_B02.jp2`, `*_B02_10m.jp2`; with SCL and MTD XML where there are."""

from benexp.products.container import Container
from benexp.products.names import parse_band_file
from benexp.products.product import BandFile, Product, make_product


def band_files(container: Container) -> list[BandFile]:
    """The band files that lie directly in the folder."""
    parsed = [(name, parse_band_file(name)) for name in container.names if "/" not in name]
    return [BandFile(found.band, container.gdal_path(name), found.resolution, name) for name, found in parsed if found]


def open_folder(container: Container) -> Product:
    """The product of a flat folder. Raises BenexpError if two files are of the same band."""
    files = band_files(container)
    return make_product(container, files, "folder", names=[container.name, *(file.file for file in files)])
