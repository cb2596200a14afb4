"""viewer.html: one self-contained page about a tile."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from rasterio.crs import CRS
from rasterio.transform import Affine

from benexp.core.classes import LandCover
from benexp.core.files import replacing
from benexp.core.window import Window
from benexp.mapping.blending import window_weights
from benexp.mapping.grid import ProbabilityGrid
from benexp.mapping.styles import RAMP
from benexp.records.run import RunRecord
from benexp.report import embedding, lonlat, page
from benexp.report.tables import areas, without_class

STYLES = ("vendor/openlayers/ol.css", "templates/base.css", "templates/viewer.css")
SCRIPTS = (
    "vendor/openlayers/ol.js",
    "templates/grid.js",
    "templates/layers.js",
    "templates/geotiffs.js",
    "templates/pointer.js",
    "templates/viewer.js",
)
RESULTS = (
    ("class", "3", "The most probable class"),
    ("confidence", "4", "Its probability"),
    ("entropy", "5", "Shannon entropy of the probabilities: how undecided the model is"),
    ("gap", "6", "How far the most probable class is above the next"),
)
"""Name, key and meaning of what the page draws from the grid."""


class Picture(NamedTuple):
    """The tile as it looks: colours [3, h, w] of these bands, where `valid` [h, w]."""

    name: str
    bands: str
    colours: npt.NDArray[np.uint8]
    valid: npt.NDArray[np.bool_]


def write_viewer(
    path: Path,
    record: RunRecord,
    grid: ProbabilityGrid,
    area: Window,
    pictures: Sequence[Picture],
    counts: npt.NDArray[np.int64],
    classes: Sequence[LandCover],
    files: Sequence[Path],
) -> None:
    """The page about the run that `record` describes, with its grid and pictures inside.

    `counts` are pixels per class; `files` will lie in the folder of the page, and have a size where they are there.
    """
    transform = Affine(*record.transform)
    height, width = record.shape
    found = areas(counts, record.pixel_area, classes)
    grid_part = embedding.embed(grid, area, window_weights(grid.patches.patch_size, record.config["chunking"]["blend"]))
    shown = {f"picture{i}": picture for i, picture in enumerate(pictures)}
    bits = f"{np.log2(len(classes)):.2f} bits"
    data = {
        "crs": record.crs,
        "extent": [transform.c, transform.f + height * transform.e, transform.c + width * transform.a, transform.f],
        "pixel": transform.a,
        "lonlat": {
            **lonlat.fit(CRS.from_user_input(record.crs), transform, (height, width))._asdict(),
            "degree": lonlat.DEGREE,
        },
        "grid": grid_part.facts,
        "classes": [
            {
                "id": i,
                "name": area.land_cover.name,
                "colour": area.land_cover.colour,
                "pixels": int(count),
                "km2_text": f"{area.hectares / 100:,.2f}" if count else "",
                "share_text": _percent(area.share),
            }
            for i, (area, count) in enumerate(zip(found, counts, strict=True))
        ],
        "pictures": [{"id": key, "name": p.name, "bands": p.bands} for key, p in shown.items()],
        "results": [list(result[:2]) for result in RESULTS],
        "geotiffs": _geotiffs(record.tile, files),
        "ramp": RAMP,
        "ends": {"confidence": ["0", "1"], "entropy": [f"{bits}, undecided", "0, sure"], "gap": ["0", "1"]},
    }
    with ThreadPoolExecutor(max(1, len(pictures))) as pool:
        addresses = pool.map(lambda picture: embedding.picture(picture.colours, picture.valid), pictures)
    scripts = [page.script(name) for name in SCRIPTS]
    html = page.template("viewer.html.j2").render(
        policy=_policy(scripts),
        styles=page.styles(STYLES),
        scripts=scripts,
        title=record.title,
        record=record,
        warnings=record.warnings,
        notices=grid_part.notices,
        km2=f"{record.pixels.classified * record.pixel_area / 1e6:,.1f}",
        without_class=[(reason, f"{hectares / 100:,.2f}") for reason, hectares in without_class(record)],
        data=data,
        blobs=grid_part.blobs | dict(zip(shown, addresses, strict=True)),
        results=RESULTS,
        facts=_facts(record),
        slowest=max([*record.stage_seconds.values(), 1e-9]),
        files=[
            (file.name, quote(file.name), page.size(file.stat().st_size) if file.exists() else "") for file in files
        ],
    )
    with replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8", newline="\n")


def _geotiffs(tile: str, files: Sequence[Path]) -> dict[str, str]:
    """Addresses of the layers that the page draws, by name, for when it is served."""
    found = {file.name: quote(file.name) for file in files}
    layers = ("class", "maxprob", "entropy", "gap")
    return {layer: found[name] for layer in layers if (name := f"{tile}_{layer}.tif") in found}


def _facts(record: RunRecord) -> list[tuple[str, str]]:
    """The facts about the run that the page shows, as (label, value)."""
    model, backend, chunking, pixels = record.model, record.backend, record.config["chunking"], record.pixels
    height, width = record.shape
    return [
        ("Model", model.name),
        ("Weights", f"{model.weights}: {model.source}"),
        ("Revision", model.revision or f"none; sha256 {model.weights_hash[:16]}"),
        ("Backend", record.backend_name),
        ("Precision", backend["precision"]),
        ("Device", backend["device"]),
        ("Resolution", f"{record.resolution}; pixels of {abs(record.transform[0]):g} m"),
        ("Sensed", record.sensed or "not stated by the product"),
        ("Patch and stride", f"{chunking['patch_size']} px, {chunking['stride']} px"),
        ("Patches", f"{record.patches.classified:,} of {record.patches.all:,} classified"),
        ("Pixels", f"{width:,} x {height:,}: {pixels.valid:,} valid, {pixels.classified:,} classified"),
        ("Coordinates", record.crs),
        ("Map", f"sha256 {record.map_hash[:16]}"),
    ]


def _percent(share: float) -> str:
    return "" if not share else "< 0.1 %" if share < 0.0005 else f"{100 * share:.1f} %"


def _policy(scripts: Sequence[str]) -> str:
    """The content security policy of a page: it may run exactly these scripts, show what it holds, and load nothing.
    Where it is served, it may read the GeoTIFFs beside it with the server's library, which unpacks them by WebAssembly
    that it loads from itself.
    """
    hashes = page.script_hashes(scripts)
    return (
        f"default-src 'none'; script-src {hashes} 'self' 'wasm-unsafe-eval'; connect-src 'self' data:; "
        "style-src 'unsafe-inline'; img-src data: blob:"
    )
