"""Makes what comes from elsewhere and means ill: products, models and results folders."""

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benexp.models.resolve import DEMO_MODEL
from tests.products.builders import random_arrays, write_folder, write_safe, zip_product
from tests.products.test_size_limits import sparse, state_size

SECRET = "what nobody should read"

Case = Callable[[Path], list[str]]
"""Makes what is hostile in a folder; the arguments that give it to the command line."""

ARRAYS = random_arrays((130, 130))
NULL = ["model=demo", "backend=null", "offset=none"]
BOMB = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a0 "ha">'
    + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    + "]><x>&a11;</x>"
)


def xml(name: str, document: str | bytes) -> Case:
    """A product with a document of this content."""

    def make(folder: Path) -> list[str]:
        (folder / "secret.txt").write_text(SECRET)
        product = write_safe(folder, arrays=ARRAYS, manifest="MD5")
        (product / name).write_bytes(document if isinstance(document, bytes) else document.encode())
        return [f"tile_folder={product}", *NULL[:2]]

    return make


def zipped(change: Callable[[zipfile.ZipFile], Any], method: int = zipfile.ZIP_STORED) -> Case:
    """A product in a zip, with what `change` puts into it, too."""

    def make(folder: Path) -> list[str]:
        path = zip_product(write_folder(folder / "P", arrays=ARRAYS), compression=method)
        with zipfile.ZipFile(path, "a", method) as archive:
            change(archive)
        return [f"tile_folder={path}", *NULL]

    return make


def link_in_zip(folder: Path) -> list[str]:
    product = write_folder(folder / "P", arrays=ARRAYS)
    (product / "B02.tif").rename(folder / "elsewhere.tif")
    path = zip_product(product)
    link = zipfile.ZipInfo("P/B02.tif")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, str(folder / "elsewhere.tif"))
    return [f"tile_folder={path}", *NULL]


def encrypted(folder: Path) -> list[str]:
    """Every member is marked as encrypted, which Python heeds and GDAL does not."""
    path = zip_product(write_folder(folder / "P", arrays=ARRAYS), compression=zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    for signature, at in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        place = content.find(signature)
        while place >= 0:
            content[place + at] |= 1
            place = content.find(signature, place + 1)
    path.write_bytes(content)
    return [f"tile_folder={path}", *NULL]


def linked(what: str) -> Case:
    """A product in which a band, or the folder of some, is a link to where it is not to look."""

    def make(folder: Path) -> list[str]:
        product = write_safe(folder, arrays=ARRAYS)
        found = next(product.glob(what))
        found.rename(folder / "elsewhere")
        found.symlink_to(folder / "elsewhere")
        return [f"tile_folder={product}", *NULL[:2]]

    return make


def header(size: int, tile: int, pattern: str = "{band}.jp2") -> Case:
    """Bands whose headers state `size` pixels a side in internal tiles of `tile`."""

    def make(folder: Path) -> list[str]:
        product = write_folder(folder / "P", pattern=pattern, arrays=ARRAYS)
        for file in product.iterdir():
            scale = 1 if file.stem in ("B02", "B03", "B04", "B08") else 2
            if file.suffix == ".jp2":
                state_size(file, size // scale, tile // scale)
            elif scale == 1:
                sparse(file, size, blockysize=tile) if tile == size else sparse(
                    file, size, tiled=True, blockxsize=tile, blockysize=tile
                )
        return [f"tile_folder={product}", *NULL]

    return make


def scene_header(folder: Path) -> list[str]:
    product = write_folder(folder / "P", pattern="{band}.jp2", arrays=ARRAYS, scl=np.full((65, 65), 4, np.uint8))
    state_size(product / "SCL.jp2", 2**31 - 2, 2**31 - 2)
    return [f"tile_folder={product}", *NULL, "mask.scl=[3]"]


class Payload:
    """Runs when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ran"

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def checkpoint(name: str) -> Case:
    """A model folder whose weights are a pickle of this name."""

    def make(folder: Path) -> list[str]:
        shutil.copytree(DEMO_MODEL, folder / "model")
        (folder / "model" / "model.safetensors").unlink()
        (folder / "model" / name).write_bytes(pickle.dumps(Payload(folder)))
        product = write_folder(folder / "P", arrays=ARRAYS)
        return [f"tile_folder={product}", "model=demo", "model.weights=folder", f"model.path={folder / 'model'}"]

    return make


def configured(folder: Path) -> list[str]:
    """A model folder whose configuration has Python in it, which configilm would evaluate."""
    arguments = checkpoint("model.safetensors")(folder)
    path = folder / "model" / "config.json"
    python = f"__import__('pathlib').Path({str(folder / 'ran')!r}).touch()"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"network_type": 1, "_fusion_activation": python}))
    return arguments


def external(folder: Path) -> list[str]:
    """An .onnx file that has its weights in a pipe, on which whoever opens it waits."""
    from benexp.models.resolve import resolve
    from tests.models.builders import model_config
    from tests.models.test_external_data import SAME, constant, graph, write

    os.mkfifo(folder / "pipe")
    (folder / "model").mkdir()
    spec = resolve(model_config(name="demo", architecture="test_resnet"))
    path = write(folder / "model" / "m.onnx", spec, graph("g", SAME, weights=constant("../pipe")))
    product = write_folder(folder / "P", arrays=ARRAYS)
    return [f"tile_folder={product}", "offset=none", "model=onnx", f"model.path={path}"]


def saved_grid(folder: Path) -> list[str]:
    """A grid left in the output folder that is a pickle."""
    (folder / "out" / "P").mkdir(parents=True)
    np.savez(folder / "out" / "P" / "P_grid.npz", about=np.array(Payload(folder), dtype=object))
    return [f"tile_folder={write_folder(folder / 'P', arrays=ARRAYS)}", *NULL]


def linked_results(folder: Path) -> list[str]:
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "run.json").write_text(SECRET)
    (folder / "out").mkdir()
    (folder / "out" / "P").symlink_to(folder / "elsewhere")
    return [f"tile_folder={write_folder(folder / 'P', arrays=ARRAYS)}", *NULL]


def linked_lock(folder: Path) -> list[str]:
    (folder / "elsewhere").write_text(SECRET)
    (folder / "out" / "P").mkdir(parents=True)
    (folder / "out" / "P" / ".lock").symlink_to(folder / "elsewhere")
    return [f"tile_folder={write_folder(folder / 'P', arrays=ARRAYS)}", *NULL]


def named(name: str) -> Case:
    def make(folder: Path) -> list[str]:
        return [f"tile_folder={write_folder(folder / name, arrays=ARRAYS)}", *NULL]

    return make


def no_text(folder: Path) -> list[str]:
    write_folder(folder / "P", arrays=ARRAYS).rename(folder / os.fsdecode(b"a\xffb"))
    return [f"input_dir={folder}", *NULL]


REFUSED: dict[str, tuple[Case, str]] = {
    "entities that double": (xml("MTD_MSIL2A.xml", BOMB), "MTD_MSIL2A.xml is not readable as XML"),
    "entities in the manifest": (xml("manifest.safe", BOMB), "manifest.safe is not readable as XML"),
    "an entity of another file": (
        xml("MTD_MSIL2A.xml", '<!DOCTYPE x [<!ENTITY a SYSTEM "secret.txt">]><x>&a;</x>'),
        "MTD_MSIL2A.xml is not readable as XML",
    ),
    "elements without end": (xml("MTD_MSIL2A.xml", b"<a>" * 1_300_000), "MTD_MSIL2A.xml is not readable as XML"),
    "too much XML": (xml("MTD_MSIL2A.xml", b"<a>" + b" " * 5_000_000), "that is no product metadata"),
    "XML packed to nothing": (
        zipped(lambda archive: archive.writestr("P/MTD_MSIL2A.xml", bytes(50_000_000)), zipfile.ZIP_DEFLATED),
        "that is no product metadata",
    ),
    "a member above the zip": (zipped(lambda archive: archive.writestr("../B02.tif", "x")), "names a file outside"),
    "a member of the root": (zipped(lambda archive: archive.writestr("/tmp/B02.tif", "x")), "names a file outside"),
    "a member with backslashes": (zipped(lambda archive: archive.writestr("..\\B02.tif", "x")), "names a file outside"),
    "a member twice": (zipped(lambda archive: archive.writestr("P/B02.tif", "x")), "two files of one name"),
    "a member that unpacks to much": (
        zipped(lambda archive: archive.writestr("P/B01.tif", bytes(70_000_000)), zipfile.ZIP_DEFLATED),
        "unpacks to 70000000 bytes",
    ),
    "a link in a zip": (link_in_zip, "B02.tif cannot be opened"),
    "an encrypted zip": (encrypted, "is encrypted"),
    "a link instead of a band": (linked("GRANULE/*/IMG_DATA/R10m/*B03*"), "is a link out of the product"),
    "a link instead of a folder": (linked("GRANULE/*/IMG_DATA/R20m"), "is a link out of the product"),
    "a link instead of metadata": (linked("MTD_MSIL2A.xml"), "is a link out of the product"),
    "a JPEG2000 header of exabytes": (header(2**31 - 2, 2**31 - 2), "B02.jp2"),
    "a JPEG2000 header of many tiles": (header(32 * 60, 32), "is cut into 3600 internal tiles"),
    "a GeoTIFF header of gigabytes": (header(40_960, 1024, "{band}.tif"), "its header is damaged"),
    "a GeoTIFF in one piece": (header(8300, 8300, "{band}.tif"), "can only be read in pieces"),
    "a huge scene classification": (scene_header, "SCL.jp2"),
    "a pickle instead of weights": (checkpoint("pytorch_model.bin"), "pytorch_model.bin is a pickle"),
    "another pickle": (checkpoint("model.pt"), "model.pt is a pickle"),
    "a configuration that runs": (configured, "network_type is 1"),
    "weights behind a path": (external, "has parts of its model elsewhere ('../pipe')"),
    "a pickle instead of a grid": (saved_grid, "not a probability grid"),
    "a link instead of results": (linked_results, "is a link"),
    "a link instead of a lock": (linked_lock, "Too many levels of symbolic links"),
    "a name with a line's end": (named("a\nb"), "has no usable name"),
    "a name that a terminal obeys": (named("a\x1b]0;b\x07"), "has no usable name"),
    "a name that is no text": (no_text, "has no usable name"),
}
