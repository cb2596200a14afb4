"""How large viewer.html of a full tile is, and how long a browser takes to show it and to answer.

python benchmarks/viewer.py --size 10980 --stride 60 --stride 30
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from benexp.core.classes import CLASSES, NAMES
from benexp.core.window import Window
from benexp.mapping.grid import CLASSIFIED, INVALID, VALID, PatchGrid, ProbabilityGrid
from benexp.measure.environment import environment
from benexp.records.model import ModelRecord
from benexp.records.run import EffectiveResolution, FileRecord, PatchCounts, PixelCounts, RunRecord
from benexp.report.viewer import Picture, write_viewer
from benexp.runs.outputs import PICTURE

RENDERED = "new Promise((done) => { map.once('rendercomplete', () => done(performance.now())); map.render(); })"
POINTER = """(() => {
  const started = performance.now();
  for (let i = 0; i < 500; i++) read([310000 + 150 * i, 5290000 - 10 * i]);
  return (performance.now() - started) / 500;
})()"""
ACTIONS = {
    "another layer": "choose('result', 'entropy')",
    "a class alone": "isolate(3)",
    "four times closer": "map.getView().adjustZoom(2)",
    "to the tile's pixels": "map.getView().setResolution(10)",
    "a screen to the east": "map.getView().adjustCenter([9000, 0])",
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=10980)
    parser.add_argument("--stride", type=int, action="append")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for stride in args.stride or [60]:
            path = Path(folder) / f"viewer_{stride}.html"
            started = time.perf_counter()
            write_page(path, args.size, stride)
            print(f"\n| stride {stride} | {browser.version} |\n|---|---|")
            print(f"| written in | {time.perf_counter() - started:.1f} s |")
            print(f"| size | {path.stat().st_size / 1e6:.1f} MB |")
            runs = [look(browser, path) for _ in range(args.repeats)]
            for name in runs[0]:
                times = [run[name] for run in runs]
                print(f"| {name} | {np.median(times):.3g} ms ({min(times):.3g} to {max(times):.3g}) |")
        browser.close()


def write_page(path: Path, size: int, stride: int) -> None:
    """A page about a made-up tile whose probabilities and pictures hardly compress."""
    rng = np.random.default_rng(0)
    grid = ProbabilityGrid.empty(PatchGrid((size, size), 120, stride), len(CLASSES))
    grid.probabilities[:] = rng.random(grid.probabilities.shape, dtype=np.float32) ** 3
    grid.patch_states[:] = CLASSIFIED
    # A swath's edge, and clouds at 20 m.
    y, x = np.mgrid[:size, :size].astype(np.float32)
    clouds = rng.random((-(-size // 400),) * 2) > 0.9
    clear = (x + 0.2 * y < size) & ~clouds.repeat(400, 0).repeat(400, 1)[:size, :size]
    grid.pixel_states[:] = np.where(clear, VALID, INVALID)
    side = -(-size // -(-size // PICTURE))
    pictures = []
    for name in ("True colour", "Infrared"):
        colours = np.clip(rng.normal(110, 14, (3, side, side)), 0, 255).astype(np.uint8)
        pictures.append(Picture(name, "noise", colours, np.ones((side, side), bool)))
    record = RunRecord(
        **{"tile": "made up", "product": "made up", "region": None, "tile_shape": (size, size), "shape": (size, size)},
        **{"crs": "EPSG:32633", "transform": (10.0, 0.0, 300000.0, 0.0, -10.0, 5300040.0)},
        **{"command": "benexp", "config_hash": "0" * 16, "map_hash": "0" * 64, "grid_key": "0" * 64},
        config={"chunking": {"patch_size": 120, "stride": stride, "blend": "sin2"}},
        model=ModelRecord("none", "none", (), (), (), 120, NAMES, "random", "", None, "0" * 64),
        **{"offsets": {}, "offset_source": "none", "warnings": [], "valid_pixels": size**2, "peak_memory_bytes": 0},
        **{"patches": PatchCounts(grid.classified.size, grid.classified.size), "environment": environment()},
        **{"backend_name": "none", "backend": {"backend": "none", "precision": "fp32", "device": "cpu"}},
        **{"folder": "made up", "grid": FileRecord(0, "0" * 64), "grid_reused": False, "resumed_chunks": 0},
        **{"sensed": None, "simulated": True, "attribution": "", "range_patches": None},
        resolution=EffectiveResolution(1200, 10 * stride),
        pixels=PixelCounts.of(size**2, size**2, size**2),
    )
    area = Window(0, 0, size, size)
    write_viewer(path, record, grid, area, pictures, np.full(len(CLASSES), 1000), CLASSES, [])


def look(browser: Any, path: Path) -> dict[str, float]:
    """Milliseconds until things are seen, in a fresh window of 1400 x 900."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, offline=True)
    page = context.new_page()
    page.goto(path.as_uri(), wait_until="commit")
    page.wait_for_selector("html[data-ready]")
    complete = page.evaluate(RENDERED)
    paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    found = {"first paint": page.evaluate(paint), "map complete": complete}
    for name, action in ACTIONS.items():
        started = page.evaluate("performance.now()")
        page.evaluate(action)
        found[name] = page.evaluate(RENDERED) - started
    found["a move of the pointer"] = page.evaluate(POINTER)
    context.close()
    return found


if __name__ == "__main__":
    main()
