"""Products as the archive ships them: .SAFE folders of L2A and L1C, old and new layouts, or the same zipped."""

import re

from benexp.core.errors import BenexpError
from benexp.products.container import Container
from benexp.products.names import parse_band_file
from benexp.products.product import BandFile, Product, make_product

_IMAGE = re.compile(r"^GRANULE/(?P<granule>[^/]+)/IMG_DATA/(R(?P<resolution>\d\d)m/)?[^/]+$")


def is_safe(container: Container) -> bool:
    return any(_IMAGE.match(name) for name in container.names)


def open_safe(container: Container, granule: str | None = None) -> Product:
    """The product of a .SAFE; `granule` chooses one of its tiles, which products from before December 2016 need.

    Raises BenexpError if there are several granules and none is chosen, or two files claim to be the same band.
    """
    images = [match for name in container.names if (match := _IMAGE.match(name))]
    granules = sorted({match["granule"] for match in images})
    if granule is None and len(granules) > 1:
        raise BenexpError(
            f"{container.path} holds {len(granules)} tiles: give the folder of one, such as GRANULE/{granules[0]}"
        )
    chosen = granule or granules[0]
    files = []
    for match in images:
        parsed = parse_band_file(match[0])
        if parsed and match["granule"] == chosen:
            resolution = parsed.resolution or int(match["resolution"] or 0) or None
            files.append(BandFile(parsed.band, container.gdal_path(match[0]), resolution, match[0]))
    return make_product(container, files, "L2A", name=granule, names=[container.name, container.path.name, chosen])
