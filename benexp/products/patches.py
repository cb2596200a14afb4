"""BigEarthNet patch folders, v1 and v2: `<patch>/<patch>_B02.tif`."""

import re
from dataclasses import replace

from benexp.products.container import Container
from benexp.products.folder import band_files, open_folder
from benexp.products.names import parse_band_file
from benexp.products.product import Product

# v1: S2A_MSIL2A_20170613T101031_87_48 (times of five digits occur)
# v2: S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_75_43
_PATCH = re.compile(r"^S2[A-D]_MSIL2A_\d{8}T\d{5,6}(_N\d{4}_R\d{3}_T\w{5})?_\d{1,3}_\d{1,3}$")


def is_patch(container: Container) -> bool:
    """True if every band file is named after one BigEarthNet patch."""
    prefixes = {parsed.prefix for file in band_files(container) if (parsed := parse_band_file(file.file))}
    return len(prefixes) == 1 and is_patch_name(prefixes.pop())


def is_patch_name(name: str) -> bool:
    return bool(_PATCH.match(name))


def open_patch(container: Container) -> Product:
    """The product of a patch folder."""
    return replace(open_folder(container), level="patch")
