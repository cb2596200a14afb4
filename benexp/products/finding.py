"""Products found at a path."""

import os
import re
from pathlib import Path

from benexp.core.errors import BenexpError
from benexp.products.container import Container, FolderContainer, open_container
from benexp.products.folder import band_files, open_folder
from benexp.products.names import one_digit_hint
from benexp.products.patches import is_patch, open_patch
from benexp.products.product import Product
from benexp.products.safe import is_safe, open_safe

ACCEPTED = "a .SAFE folder, its zip, a folder of band files (B02.tif, *_B02_10m.jp2) or a BigEarthNet patch folder"
_RADAR = re.compile(r"^S1[A-D][_-](IW|EW|SM|WV|S[1-6])[_-]|(^|_)(VV|VH|HH|HV)\.(tiff?|jp2)$", re.IGNORECASE)


def open_product(path: Path | str) -> Product:
    """The product at `path`: a .SAFE, one tile's folder in its GRANULE, a flat folder, a patch folder, or a zip of one.

    Raises BenexpError if there is none, naming the products inside where the folder holds some.
    """
    path = Path(os.path.abspath(path))
    if path.parent.name == "GRANULE" and (path / "IMG_DATA").is_dir():
        return open_safe(FolderContainer(path.parent.parent), granule=path.name)
    container = open_container(path)
    if is_safe(container):
        return open_safe(container)
    if is_patch(container):
        return open_patch(container)
    if _has_bands(container):
        return open_folder(container)
    inside = _products_in(path) if path.is_dir() else []
    if inside:
        raise BenexpError(
            f"{path} is not a product but holds {len(inside)}: give one of them, such as {inside[0].name}"
        )
    _refuse_radar(container)
    raise BenexpError(f"{path} holds no Sentinel-2 bands: give {ACCEPTED}{one_digit_hint(container.names)}")


def find_products(folder: Path | str) -> list[Path]:
    """The products in a folder, sorted by name; a product gives itself. Zips that cannot be read are among them.

    Raises BenexpError if there are none.
    """
    folder = Path(os.path.abspath(folder))
    if _is_product(folder):
        return [folder]
    if not folder.is_dir():
        raise BenexpError(f"{folder} is no folder: give one that holds products")
    found = _products_in(folder)
    if not found:
        _refuse_radar(open_container(folder))
        raise BenexpError(f"{folder} holds no products: each should be {ACCEPTED}")
    return found


def _products_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and _is_product(path))


def _is_product(path: Path) -> bool:
    if not path.is_dir() and path.suffix.lower() != ".zip":
        return False
    try:
        container = open_container(path)
    except BenexpError:
        # A damaged download is to be reported when it is opened, not passed over.
        return True
    return is_safe(container) or _has_bands(container)


def _refuse_radar(container: Container) -> None:
    """Raise BenexpError where a name is one of Sentinel-1: of the product, or of a file or folder in it."""
    folders = os.listdir(container.path) if container.path.is_dir() else []
    names = (container.name, *(name.rpartition("/")[2] for name in container.names), *folders)
    if radar := next((name for name in names if _RADAR.search(name)), None):
        raise BenexpError(
            f"{container.path} holds Sentinel-1 data, which is radar ({radar}): models of Sentinel-2 bands cannot take "
            f"it; give {ACCEPTED}"
        )


def _has_bands(container: Container) -> bool:
    return any(file.name != "SCL" for file in band_files(container))
