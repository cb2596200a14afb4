"""What making pixels of the grid costs beside writing them: a full tile, class, maxprob, entropy and gap.

python benchmarks/rendering.py --size 10980
"""

import argparse
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from rasterio.crs import CRS
from rasterio.transform import Affine

from benexp.core import cores
from benexp.core.classes import NAMES
from benexp.core.clocks import StageClocks
from benexp.core.window import Window
from benexp.mapping import layers, pipeline
from benexp.mapping.cog import RasterWriter
from benexp.mapping.grid import CLASSIFIED, VALID, PatchGrid, ProbabilityGrid


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=10980)
    parser.add_argument("--stride", type=int, default=60)
    args = parser.parse_args()
    patches = PatchGrid((args.size, args.size), 120, args.stride)
    grid = ProbabilityGrid.empty(patches, len(NAMES))
    grid.probabilities[:] = np.random.default_rng(0).random(grid.probabilities.shape) ** 3
    grid.patch_states[:] = CLASSIFIED
    grid.pixel_states[:] = VALID
    clocks = StageClocks()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        built = layers.build({"names": ["class", "maxprob", "entropy", "gap"]}, NAMES)
        place = {"crs": CRS.from_epsg(32633), "transform": Affine(10, 0, 600000, 0, -10, 5300040)}
        writers = [
            stack.enter_context(
                RasterWriter(
                    Path(folder) / f"{layer.name}.tif",
                    layer,
                    shape=(args.size,) * 2,
                    tags={},
                    class_names=NAMES,
                    **place,
                )
            )
            for layer in built
        ]
        started = time.perf_counter()
        area = Window(0, 0, args.size, args.size)
        pipeline.render(grid, area, writers, NAMES, blend_shape="sin2", clocks=clocks, threads=cores.available())
        rendered = time.perf_counter()
        for writer in writers:
            writer.finish()
        finished = time.perf_counter()
    print("| | seconds |\n|---|---|")
    print(f"| blend and layers, busy, over {cores.available()} threads | {clocks.seconds['blend']:.1f} |")
    print(f"| writing blocks, busy, one thread | {clocks.seconds['write']:.1f} |")
    print(f"| both, wall | {rendered - started:.1f} |")
    print(f"| making COGs of them and reading them back, wall | {finished - rendered:.1f} |")


if __name__ == "__main__":
    main()
