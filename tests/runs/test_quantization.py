import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from benexp import BenexpError, classify
from benexp.config.groups import conf_folder
from benexp.config.quoting import quote
from benexp.config.schema import Config
from benexp.config.validation import check
from benexp.core.window import Window
from benexp.models.resolve import resolve
from benexp.models.spec import ModelSpec
from benexp.products import open_tile
from benexp.products.tile import Tile
from benexp.runs.backend_choice import choose_backend
from benexp.runs.quantization import range_patches_for, range_patches_of
from tests.models.builders import model_config
from tests.products.builders import random_arrays, write_safe

SIZE = (360, 490)


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    return resolve(model_config(name="demo", architecture="test_resnet"))


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three by five patches with an offset; the upper left one is nodata, of the one beside it a quarter."""
    arrays = random_arrays(SIZE)
    for array in arrays.values():
        array += 1000
        array[: len(array) // 3, : round(array.shape[1] * 150 / 490)] = 0
    return write_safe(tmp_path_factory.mktemp("product"), arrays=arrays, size=SIZE)


def config(*overrides: str) -> Config:
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return check(compose("config", [quote(override) for override in ("model=demo", *overrides)]))


def test_patches_are_what_the_model_would_get(safe: Path, spec: ModelSpec, caplog: pytest.LogCaptureFixture) -> None:
    patches = range_patches_of([safe], config(), spec).read()
    # Whether so few are enough is for int8 to say: files of other precisions are only checked on them.
    assert not caplog.records
    assert patches.shape == (14, 10, 120, 120)
    assert patches.dtype == np.float32
    with open_tile(safe, spec.bands) as tile:
        pixels, valid = tile.read(Window(0, 0, *SIZE))
    filled = np.where(valid, pixels, np.asarray(spec.means, np.float32)[:, None, None]).astype(np.float32)
    places = [(row, col) for row in (0, 120, 240) for col in (0, 120, 240, 360, 370)][1:]
    expected = {filled[:, row : row + 120, col : col + 120].tobytes() for row, col in places}
    assert {patch.tobytes() for patch in patches} == expected


def test_no_more_than_asked_for_and_the_same_every_time(safe: Path, spec: ModelSpec) -> None:
    calibration = range_patches_of([safe], config("quantization.patches=5"), spec)
    patches = calibration.read()
    assert len(patches) == 5
    assert np.array_equal(patches, calibration.read())
    assert calibration.source.startswith("up to 5 patches of S2A_")


def test_the_key_stands_for_the_patches_and_is_known_without_reading(
    safe: Path, spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tile, "read", lambda *_: pytest.fail("read"))
    other = write_safe(tmp_path, size=SIZE, seed=1)
    key = range_patches_of([safe], config(), spec).key
    assert range_patches_of([safe], config("export.tolerance.int8=0.1", "chunking.stride=30"), spec).key == key
    others = {
        range_patches_of([safe], config("quantization.patches=5"), spec).key,
        range_patches_of([safe], config("offset=none", "offset_override=true"), spec).key,
        range_patches_of([safe], config("saturated=keep"), spec).key,
        range_patches_of([other], config(), spec).key,
        range_patches_of([safe, other], config(), spec).key,
    }
    assert len(others - {key}) == 5
    # int8 is quantised on the whole tile, also where a region of it is mapped.
    assert range_patches_of([safe], config("region.pixels=[0,0,200,200]"), spec).key == key


def test_products_share_the_patches(safe: Path, spec: ModelSpec, tmp_path: Path) -> None:
    other = write_safe(tmp_path, arrays={band: array + 20000 for band, array in random_arrays(SIZE).items()}, size=SIZE)
    patches = range_patches_of([safe, other], config("quantization.patches=7"), spec).read()
    assert [bool(bright) for bright in patches.min((1, 2, 3)) > 10000] == [False] * 4 + [True] * 3


def test_of_many_products_eight_are_opened_evenly(
    spec: ModelSpec, safe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []

    def open_input(product: Path, *_: object, **__: object) -> Tile:
        opened.append(product)
        return open_tile(safe, spec.bands)

    monkeypatch.setattr("benexp.runs.quantization.open_input", open_input)
    range_patches_of([Path(str(index)) for index in range(24)], config(), spec)
    assert [int(path.name) for path in opened] == [1, 4, 7, 10, 13, 16, 19, 22]
    opened.clear()
    range_patches_of([Path(str(index)) for index in range(24)], config("quantization.patches=2"), spec)
    assert len(opened) == 2


def test_few_blocks_are_read_of_a_large_tile(spec: ModelSpec, safe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks: set[tuple[int, int]] = set()

    class Large:
        name, fingerprint, offsets = "large", "0", dict[str, int]()
        shape = (10980, 10980)

        def __enter__(self) -> "Large":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
            rows, cols = ((first // 1024, (first + 479) // 1024) for first in window[:2])
            blocks.update((row, col) for row in rows for col in cols)
            # The right half of the tile is nodata.
            valid = np.full(window.shape, window.col < 5490)
            return np.full((10, *window.shape), 1000, np.uint16), valid

    monkeypatch.setattr("benexp.runs.quantization.open_input", lambda *_, **__: Large())
    assert len(range_patches_of([safe], config("quantization.patches=64"), spec).read()) == 64
    assert len(blocks) < 20
    assert len({row for row, _ in blocks}) >= 4


def test_a_product_without_a_valid_patch_is_told(spec: ModelSpec, tmp_path: Path) -> None:
    empty = {band: array * 0 for band, array in random_arrays(SIZE).items()}
    calibration = range_patches_of([write_safe(tmp_path, arrays=empty, size=SIZE)], config(), spec)
    with pytest.raises(BenexpError, match=r"S2A_\w+: none of its patches is half valid, .* name another product"):
        calibration.read()


def test_a_broken_product_does_not_stop_the_others(
    safe: Path, spec: ModelSpec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    empty = {band: array * 0 for band, array in random_arrays(SIZE).items()}
    blank, broken = write_safe(tmp_path / "blank", arrays=empty, size=SIZE), tmp_path / "broken" / safe.name
    shutil.copytree(safe, broken)
    next(broken.rglob("*_B03_10m.jp2")).unlink()
    with caplog.at_level(logging.WARNING, "benexp"):
        patches = range_patches_of([broken, blank, safe], config("quantization.patches=12"), spec).read()
    assert len(patches) == 4
    assert ["B03" in caplog.text, "half valid" in caplog.text] == [True, True]
    with pytest.raises(BenexpError, match="B03"):
        range_patches_of([broken], config(), spec)


@pytest.mark.parametrize("backend", ["torch", "onnxruntime-cpu", "null"])
def test_other_precisions_are_not_calibrated(backend: str, safe: Path, spec: ModelSpec) -> None:
    assert range_patches_for([safe], config(f"backend={backend}"), spec) is None


def test_int8_files_are_not_calibrated_again(safe: Path, spec: ModelSpec) -> None:
    asked = config("backend=onnxruntime-cpu", "backend.precision=int8")
    backend = choose_backend(asked.backend)
    assert range_patches_for([safe], asked, spec, backend) is not None
    assert range_patches_for([safe], asked, replace(spec, precision="int8"), backend) is None


def test_a_tile_at_int8(safe: Path, tmp_path: Path) -> None:
    def run(*overrides: str) -> dict[str, object]:
        int8 = ("model=demo", "backend=onnxruntime-cpu", "backend.precision=int8", "quantization.patches=8")
        return classify(safe, tmp_path, *int8, *overrides)

    record = run()
    assert record["range_patches"] == f"up to 8 patches of {record['tile']}"
    assert record["backend"]["precision"] == "int8"
    again = run("export.tolerance.fp16=0.02")
    assert again["grid_reused"]
    assert again["range_patches"] == record["range_patches"]
    assert not run("quantization.patches=9", "overwrite=true")["grid_reused"]
