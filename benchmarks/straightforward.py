"""The straightforward way to classify a tile, to compare with: what users write by hand.

Torch fp32 in eager mode with gradients off, batches of 32, chunks of 4800 pixels read by boundless windows that GDAL
resamples to 10 m, and probabilities [classes, height, width] to which every patch is added in turn. A chunk classifies
all patches that reach into it, so the map has no seams and can be compared with benexp's pixel by pixel.

    python benchmarks/straightforward.py PRODUCT OUT --model resnet50-s2-v0.2.0
"""

import argparse
from pathlib import Path

import numpy as np
import rasterio
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rasterio.enums import Resampling
from rasterio.windows import Window

from benexp.config.groups import conf_folder
from benexp.models.checkpoint import load_network
from benexp.models.resolve import resolve
from benexp.products import open_product

CHUNK, PATCH, STRIDE, BATCH = 4800, 120, 60, 32


def read(files: list[rasterio.DatasetReader], row: int, col: int, shape: tuple[int, int]) -> np.ndarray:
    """The bands [bands, h, w] of a window at 10 m, 20 m bands resampled by GDAL, zero outside the tile."""
    bands = []
    for file in files:
        scale = file.transform.a / 10
        window = Window(col / scale, row / scale, shape[1] / scale, shape[0] / scale)
        bands.append(
            file.read(1, window=window, out_shape=shape, boundless=True, fill_value=0, resampling=Resampling.nearest)
        )
    return np.stack(bands)


def origins(length: int, start: int, stop: int) -> list[int]:
    """The patches of the tile's grid that reach into [start, stop)."""
    grid = [*range(0, length - PATCH, STRIDE), length - PATCH]
    return [o for o in grid if o < stop and o + PATCH > start]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("product", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="resnet50-s2-v0.2.0")
    args = parser.parse_args()

    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("config", [f"model={args.model}", "model.weights=random"])
    spec = resolve(OmegaConf.to_container(config.model), seed=0)
    network = load_network(spec)
    means = torch.tensor(spec.means)[:, None, None]
    stds = torch.tensor(spec.stds)[:, None, None]
    product = open_product(args.product)
    offsets = (product.metadata and product.metadata.offsets) or {}
    files = [rasterio.open(product.bands[band].path) for band in spec.bands]
    height, width = files[0].shape
    window_1d = np.sin(np.pi * (np.arange(PATCH) + 0.5) / PATCH) ** 2
    weights = np.outer(window_1d, window_1d).astype(np.float32)

    args.out.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff", "height": height, "width": width, "count": 1, "crs": files[0].crs,
        "transform": files[0].transform, "tiled": True, "compress": "deflate",
    }  # fmt: skip
    outputs = {
        name: rasterio.open(args.out / f"{name}.tif", "w", dtype=dtype, nodata=nodata, **profile)
        for name, dtype, nodata in [
            ("class", "uint8", 255), ("maxprob", "float32", np.nan),
            ("entropy", "float32", np.nan), ("gap", "float32", np.nan),
        ]
    }  # fmt: skip
    patches = 0
    for top in range(0, height, CHUNK):
        for left in range(0, width, CHUNK):
            bottom, right = min(top + CHUNK, height), min(left + CHUNK, width)
            # A patch of margin all round, so that every patch that reaches into the chunk is whole.
            row0, col0 = top - PATCH, left - PATCH
            shape = bottom - top + 2 * PATCH, right - left + 2 * PATCH
            raw = read(files, row0, col0, shape)
            valid = (raw != 0).all(axis=0)
            chunk = (
                raw.astype(np.float32) + np.array([offsets.get(b, 0) for b in spec.bands], np.float32)[:, None, None]
            )
            chunk = np.maximum(chunk, 1)
            chunk = np.where(valid, chunk, np.asarray(spec.means, np.float32)[:, None, None])
            total = np.zeros((len(spec.classes), *shape), np.float32)
            weight = np.zeros(shape, np.float32)
            places = [(y - row0, x - col0) for y in origins(height, top, bottom) for x in origins(width, left, right)]
            places = [(y, x) for y, x in places if valid[y : y + PATCH, x : x + PATCH].mean() >= 0.5]
            for start in range(0, len(places), BATCH):
                batch = places[start : start + BATCH]
                stacked = torch.from_numpy(np.stack([chunk[:, y : y + PATCH, x : x + PATCH] for y, x in batch]))
                with torch.no_grad():
                    answers = torch.sigmoid(network((stacked - means) / stds)).numpy()
                for (y, x), answer in zip(batch, answers, strict=True):
                    total[:, y : y + PATCH, x : x + PATCH] += weights * answer[:, None, None]
                    weight[y : y + PATCH, x : x + PATCH] += weights
                patches += len(batch)
            inside = np.s_[top - row0 : bottom - row0, left - col0 : right - col0]
            meaningful = (weight > 0)[inside] & valid[inside]
            probabilities = total[:, *inside] / np.maximum(weight[inside], 1e-12)
            ranked = np.partition(probabilities, -2, axis=0)
            share = probabilities / np.maximum(probabilities.sum(axis=0), 1e-12)
            layers = {
                "class": np.where(meaningful, probabilities.argmax(axis=0), 255).astype(np.uint8),
                "maxprob": np.where(meaningful, ranked[-1], np.nan),
                "gap": np.where(meaningful, ranked[-1] - ranked[-2], np.nan),
                "entropy": np.where(meaningful, -(share * np.log2(np.maximum(share, 1e-12))).sum(axis=0), np.nan),
            }
            for name, values in layers.items():
                outputs[name].write(values, 1, window=Window(left, top, right - left, bottom - top))
    for output in outputs.values():
        output.close()
    print(f"{patches} patches")


if __name__ == "__main__":
    main()
