"""What tests of several folders share: a cache of their own, one small model, and a real browser, started once."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Before anything imports torch: the suite must be quick on two cores and leave room on more.
os.environ.setdefault("OMP_NUM_THREADS", "2")
# MLflow takes seconds to import, and its database would lie in the current folder; tests of tracking name theirs.
os.environ["BENEXP_TRACKING"] = "none"

from benexp.models.resolve import resolve
from benexp.models.spec import ModelSpec
from tests.benchmarking.builders import write
from tests.browser import visit as visit
from tests.models.builders import model_config
from tests.products.builders import random_arrays, write_safe

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """benexp's cache for this test session; the user's own is neither read nor written."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("BENEXP_CACHE_DIR")
    os.environ["BENEXP_CACHE_DIR"] = str(folder)
    yield folder
    if before is None:
        del os.environ["BENEXP_CACHE_DIR"]
    else:
        os.environ["BENEXP_CACHE_DIR"] = before


@pytest.fixture(scope="session")
def small_model(cache: Path) -> ModelSpec:
    """A network of 1 MB with lively random weights, in a folder in the published format."""
    return resolve(model_config(weights="random"))


@pytest.fixture(scope="session")
def small_onnx(small_model: ModelSpec) -> Path:
    """The export of `small_model`."""
    from exporters.cached import cached

    return cached(small_model, "onnx")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless chromium with a profile of its own. Skips where there is none, or nothing to drive it."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("NO BROWSER: pages are not tested; on Debian: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="NO PLAYWRIGHT: pages are not tested; pip install '.[dev]'")
    with api.sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield chrome
        chrome.close()


@pytest.fixture(scope="session")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An L2A product of 250 x 310 pixels with an offset and a nodata corner."""
    arrays = random_arrays((250, 310))
    for array in arrays.values():
        array += 1000
        side = len(array) // 5
        array[:side, :side] = 0
    return write_safe(tmp_path_factory.mktemp("product"), arrays=arrays, size=(250, 310), manifest="MD5")


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks without plots: they take seconds, and have tests of their own."""
    for module in ("benchmark_job", "sweep_report"):
        monkeypatch.setattr(f"benexp.benchmarking.{module}.write_plots", lambda *_: [])


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("products"), first=None, second=None)
