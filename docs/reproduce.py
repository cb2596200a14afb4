"""Make the class map of a Sentinel-2 product, a .SAFE or a folder of bands, with an .onnx file, by methods.md."""

import argparse
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnxruntime
import rasterio

IDS = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"]  # by band_id
WINDOWS = {"sin2": lambda t: np.cos(np.pi / 2 * t) ** 2, "gaussian": lambda t: np.exp(-2 * t**2), "flat": np.ones_like}
parser = argparse.ArgumentParser(description=__doc__)
for name in ("product", "model", "classes"):
    parser.add_argument(name, type=Path)
parser.add_argument("--probs", help=".npy file for the probability of every class")
parser.add_argument("--offset", type=int, help="added to the numbers of bands for which the XML lists none")
parser.add_argument("--mask", type=int, nargs="*", default=[], help="classes of the SCL that are invalid")
parser.add_argument("--saturated", choices=("mask", "keep"), default="mask")
parser.add_argument("--stride", type=int, default=60)
parser.add_argument("--blend", choices=WINDOWS, default="sin2")
parser.add_argument("--min-valid", type=float, default=0.5)
args = parser.parse_args()
session = onnxruntime.InferenceSession(args.model, providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
bands, means, size, names = (json.loads(about[f"benexp.{key}"]) for key in ("bands", "means", "patch_size", "classes"))

# 1. The finest file of every band, the offsets and the quantification.
sources = {}
for band in [*bands, *(["SCL"] if args.mask else [])]:
    found = [p for p in args.product.rglob("*") if re.match(rf"(?!MSK_)(.*_)?{band}(_\d0m)?\.(jp2|tiff?)$", p.name)]
    with rasterio.Env(GDAL_PAM_ENABLED=False):  # no .aux.xml beside a file
        sources[band] = min(map(rasterio.open, found), key=lambda source: source.res)
xml = [node for path in args.product.glob("*MTD_MSIL*.xml") for node in ElementTree.parse(path).iter()]
offsets = {IDS[int(n.get("band_id"))]: round(float(n.text)) for n in xml if n.tag.endswith("_ADD_OFFSET")}
if args.offset is None and not offsets.keys() >= set(bands):
    parser.error("the XML lists no offsets: give --offset, which is 0 before processing baseline 04.00")
scale = 10000 / next((float(n.text) for n in xml if re.match(r"(L2A_)?(BOA_)?QUANTIFICATION_VALUE$", n.tag)), 10000)

# 2. Model DN [bands, height, width] on the 10 m grid of the finest band; 0 where there is no data or the mask.
first = min((sources[band] for band in sorted(bands)), key=lambda source: source.res)
height, width = (n * round(first.res[0] / 10) for n in first.shape)
pixels, numbers = np.zeros((len(sources), height, width), np.uint16), np.arange(65536)
for target, (band, source) in zip(pixels, sources.items(), strict=True):
    invalid = args.mask if band == "SCL" else [0, source.nodata or 0, 65535 if args.saturated == "mask" else 0]
    model_dn = 1 if band == "SCL" else np.clip(np.rint((numbers + offsets.get(band, args.offset)) * scale), 1, 65535)
    table = np.where(np.isin(numbers, invalid), 0, model_dn).astype(np.uint16)
    shifts = (source.transform.f - first.transform.f, first.transform.c - source.transform.c)  # metres south, east
    metres = [(np.arange(n) + 0.5) * 10 + shift for n, shift in zip((height, width), shifts, strict=True)]
    nearest = [np.floor(along / source.res[0] + 1e-6).astype(int) for along in metres]
    row, col = (np.clip(at, -1, n) + 1 for at, n in zip(nearest, source.shape, strict=True))
    target[:] = np.pad(table[source.read(1)], 1)[np.ix_(row, col)]
valid, pixels = pixels.all(0), pixels[: len(bands)]

# 3. The answers for the patches of the grid, and 1 where there is one. The model normalises and has the sigmoid.
rows, cols = (np.unique([*range(0, n - size, args.stride), n - size]) for n in (height, width))
answers = np.zeros((len(names) + 1, len(rows), len(cols)))
for i, j in np.ndindex(len(rows), len(cols)):
    place = np.s_[rows[i] : rows[i] + size, cols[j] : cols[j] + size]
    if valid[place].mean() >= args.min_valid:
        patch = np.where(valid[place], pixels[:, *place], np.reshape(means, (-1, 1, 1))).astype(np.float32)
        answers[:, i, j] = [*session.run(["probabilities"], {"patches": patch[None]})[0][0], 1]

# 4. The blend, some rows of pixels at a time, and the classes: the first of those that are most probable.
window = WINDOWS[args.blend](2 * (np.arange(size) + 0.5) / size - 1)
inside = [np.arange(n)[:, None] - origins for n, origins in ((height, rows), (width, cols))]
along_y, along_x = (np.where((at >= 0) & (at < size), window[np.clip(at, 0, size - 1)], 0) for at in inside)
classes = np.full((height, width), 255, np.uint8)
probs = args.probs and np.lib.format.open_memmap(args.probs, "w+", np.float32, (len(names), height, width))
for y in (slice(top, top + 100) for top in range(0, height, 100)):
    *blended, total = along_y[y] @ answers @ along_x.T
    mapped = valid[y] & (total > 0)
    classes[y][mapped] = np.argmax(blended, 0)[mapped]
    if args.probs:
        probs[:, y] = np.where(mapped, blended / np.where(mapped, total, 1), np.nan)
transform = rasterio.Affine(10, 0, first.transform.c, 0, -10, first.transform.f)
with rasterio.open(args.classes, "w", "GTiff", width, height, 1, first.crs, transform, "uint8", 255) as file:
    file.write(classes, 1)
