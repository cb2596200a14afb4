import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rio_cogeo.cogeo import cog_validate

from benexp.core.classes import CLASSES, NAMES, NODATA
from benexp.core.errors import BenexpError
from benexp.core.window import Window
from benexp.mapping import cog
from benexp.mapping.cog import RasterWriter, Statistics
from benexp.mapping.layers import Layer, build

GRID = {"crs": CRS.from_epsg(32633), "transform": from_origin(300000, 5000040, 10, 10)}
TAGS = {"BENEXP_VERSION": "1.2", "MODEL": "a model", "STRIDE": "60"}


def layer(name: str, **settings: Any) -> Layer:
    return build({"names": [name], **settings}, NAMES)[0]


def windows(shape: tuple[int, int]) -> list[Window]:
    return [
        Window(r, c, min(512, shape[0] - r), min(512, shape[1] - c))
        for r in range(0, shape[0], 512)
        for c in range(0, shape[1], 512)
    ]


def write(path: Path, which: Layer, values: np.ndarray, publish: bool = True) -> None:
    shape = values.shape[-2:]
    with RasterWriter(path, which, shape=shape, **GRID, tags=TAGS, class_names=NAMES) as writer:
        for window in windows(shape):
            writer.write(values[..., *window.slices], window)
        writer.finish()
        if publish:
            writer.publish()


def smooth(shape: tuple[int, ...]) -> np.ndarray:
    *_, rows, cols = np.indices(shape)
    return ((np.sin(rows / 50) * np.cos(cols / 70) + 1) / 2).astype(np.float32)


def test_class_raster_reads_back_with_grid_colours_names_and_tags(tmp_path: Path) -> None:
    values = (smooth((700, 1100)) * 18.99).astype(np.uint8)
    values[:, :30] = NODATA
    path = tmp_path / "Zürich [1]_class.tif"
    write(path, layer("class"), values)

    with rasterio.open(path) as ds:
        assert ds.crs == GRID["crs"] and ds.transform == GRID["transform"] and ds.nodata == NODATA
        assert np.array_equal(ds.read(1), values)
        assert [ds.colormap(1)[i][:3] for i in range(19)] == [c.rgb for c in CLASSES]
        assert TAGS.items() <= ds.tags().items()
        assert ds.tags()["LAYER"] == "class"
        assert ds.block_shapes == [(512, 512)] and ds.compression.name == "zstd"
        seen = values[values != NODATA].astype(float)
        statistics = ds.tags(1)
    assert float(statistics["STATISTICS_MEAN"]) == pytest.approx(seen.mean(), rel=1e-8)
    assert float(statistics["STATISTICS_STDDEV"]) == pytest.approx(seen.std(), rel=1e-8)
    assert statistics["STATISTICS_MINIMUM"] == "0" and statistics["STATISTICS_MAXIMUM"] == "18"
    assert cog_validate(path, quiet=True)[:2] == (True, [])

    categories = ET.parse(tmp_path / "Zürich [1]_class.tif.aux.xml").findall(".//CategoryNames/Category")
    assert [c.text for c in categories] == list(NAMES)
    entries = ET.parse(tmp_path / "Zürich [1]_class.qml").findall(".//paletteEntry")
    assert [(e.get("value"), e.get("color"), e.get("label")) for e in entries] == [
        (str(c.id), c.colour, c.name) for c in CLASSES
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "Zürich [1]_class.qml",
        "Zürich [1]_class.tif",
        "Zürich [1]_class.tif.aux.xml",
    ]


@pytest.mark.parametrize("shape", [(1, 1), (120, 120), (512, 512), (513, 40), (1024, 300), (1025, 700), (40, 2049)])
def test_every_shape_is_a_valid_cog(tmp_path: Path, shape: tuple[int, int]) -> None:
    values = smooth(shape)
    values[0, 0] = np.nan
    write(tmp_path / "x_gap.tif", layer("gap"), values)
    valid, errors, _ = cog_validate(tmp_path / "x_gap.tif", quiet=True)
    assert valid, errors
    with rasterio.open(tmp_path / "x_gap.tif") as ds:
        assert np.isnan(ds.nodata)
        assert np.array_equal(ds.read(1), values, equal_nan=True)


def test_overviews_of_classes_take_the_majority_and_invent_none(tmp_path: Path) -> None:
    square = {
        "one differs at its start": ([[17, 3], [3, 3]], 3),
        "one differs at its end": ([[3, 3], [3, 17]], 3),
        "a single valid one": ([[NODATA, NODATA], [NODATA, 5]], 5),
        "none valid": ([[NODATA, NODATA], [NODATA, NODATA]], NODATA),
    }
    values = np.hstack([np.tile(np.array(pixels, np.uint8), (512, 128)) for pixels, _ in square.values()])
    write(tmp_path / "x_class.tif", layer("class"), values)
    with rasterio.open(tmp_path / "x_class.tif", overview_level=0) as ds:
        overview = ds.read(1)
    assert overview.shape == (512, 512)
    for part, (_, majority) in zip(np.hsplit(overview, 4), square.values(), strict=True):
        assert (part == majority).all()


def test_overviews_of_floats_are_averages_of_valid_pixels(tmp_path: Path) -> None:
    values = np.tile(np.array([[1, 2], [3, np.nan]], np.float32), (512, 512))
    write(tmp_path / "x_gap.tif", layer("gap"), values)
    with rasterio.open(tmp_path / "x_gap.tif", overview_level=0) as ds:
        assert np.allclose(ds.read(1), 2)


def test_all_nodata_raster_has_no_statistics(tmp_path: Path) -> None:
    write(tmp_path / "x_gap.tif", layer("gap"), np.full((600, 600), np.nan, np.float32))
    with rasterio.open(tmp_path / "x_gap.tif") as ds:
        assert np.isnan(ds.read(1)).all()
        assert not [key for key in ds.tags(1) if key.startswith("STATISTICS")]


def test_scaled_probabilities_describe_their_bands(tmp_path: Path) -> None:
    values = np.arange(19 * 600 * 30, dtype=np.uint32).reshape(19, 600, 30).astype(np.uint16) % 10001
    write(tmp_path / "x_probs.tif", layer("probs", probs_dtype="uint16"), values)
    with rasterio.open(tmp_path / "x_probs.tif") as ds:
        assert ds.descriptions == NAMES
        assert ds.scales == (0.0001,) * 19 and ds.offsets == (0,) * 19
        assert ds.nodata == 65535
        assert np.array_equal(ds.read(), values)
    assert cog_validate(tmp_path / "x_probs.tif", quiet=True)[0]


def test_bits_keep_their_32_bits(tmp_path: Path) -> None:
    values = np.full((600, 600), 2**32 - 1, np.uint32)
    values[:300] = 1 << 18 | 1
    write(tmp_path / "x_multilabel.tif", layer("multilabel"), values)
    with rasterio.open(tmp_path / "x_multilabel.tif") as ds:
        assert ds.nodata == 2**32 - 1
        assert np.array_equal(ds.read(1), values)
    with rasterio.open(tmp_path / "x_multilabel.tif", overview_level=0) as ds:
        assert set(np.unique(ds.read(1))) == {1 << 18 | 1, 2**32 - 1}


def test_entropy_style_ends_at_log2_of_the_classes(tmp_path: Path) -> None:
    write(tmp_path / "x_entropy.tif", layer("entropy"), smooth((50, 50)))
    shader = ET.parse(tmp_path / "x_entropy.qml").find(".//colorrampshader")
    assert shader is not None and shader.get("maximumValue") == "4.248"


def test_same_input_same_bytes(tmp_path: Path) -> None:
    values = smooth((1500, 1300))
    values[:200] = np.nan
    for name in "ab":
        (tmp_path / name).mkdir()
        write(tmp_path / name / "x_gap.tif", layer("gap"), values)
    assert (tmp_path / "a" / "x_gap.tif").read_bytes() == (tmp_path / "b" / "x_gap.tif").read_bytes()


def test_unpublished_files_go(tmp_path: Path) -> None:
    write(tmp_path / "x_class.tif", layer("class"), np.zeros((600, 600), np.uint8), publish=False)
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    old = tmp_path / "x_class.tif"
    old.write_bytes(b"old")
    other = tmp_path / "x_class2.partial.tif"
    other.write_bytes(b"another writer's")
    with (
        pytest.raises(KeyError),
        RasterWriter(old, layer("class"), shape=(9, 9), **GRID, tags=TAGS, class_names=NAMES) as writer,
    ):
        writer.write(np.zeros((9, 9), np.uint8), Window(0, 0, 9, 9))
        raise KeyError
    assert sorted(tmp_path.iterdir()) == [old, other]
    assert old.read_bytes() == b"old"


def test_sidecars_appear_before_the_raster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renamed: list[str] = []
    replace = Path.replace

    def spy(self: Path, target: Path) -> Path:
        renamed.append(target.name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", spy)
    write(tmp_path / "x_class.tif", layer("class"), np.zeros((9, 9), np.uint8))
    assert renamed == ["x_class.tif.aux.xml", "x_class.qml", "x_class.tif"]


def test_missing_blocks_are_not_finished(tmp_path: Path) -> None:
    with RasterWriter(
        tmp_path / "x_gap.tif", layer("gap"), shape=(600, 600), **GRID, tags=TAGS, class_names=NAMES
    ) as writer:
        writer.write(np.zeros((512, 600), np.float32), Window(0, 0, 512, 600))
        with pytest.raises(RuntimeError, match="do not cover"):
            writer.finish()


def test_damage_on_the_way_to_disk_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = rasterio.shutil.copy

    def damaged(source: Path, target: Path, **options: Any) -> None:
        copy(source, target, **options)
        with open(target, "r+b") as file:
            file.seek(target.stat().st_size - 2000)
            file.write(b"\0" * 100)

    monkeypatch.setattr(cog.rasterio.shutil, "copy", damaged)
    with pytest.raises(BenexpError, match=r"cannot write .*x_gap\.tif"):
        write(tmp_path / "x_gap.tif", layer("gap"), np.random.default_rng(0).random((600, 600), np.float32))
    assert list(tmp_path.iterdir()) == []


def test_unwritable_path_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BenexpError, match="cannot write") as error:
        write(tmp_path / "file" / "x_gap.tif", layer("gap"), smooth((9, 9)))
    assert "\n" not in str(error.value)


FULL_DISK = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import numpy as np
from tests.mapping.test_cog import layer, write
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
write(Path(sys.argv[1]), layer("gap"), np.random.default_rng(0).random((1100, 1100), np.float32))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
@pytest.mark.parametrize("limit", [0, 1_000_000, 4_200_000])
def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, limit: int) -> None:
    """The file is 5.3 MB, its base level 4.0: GDAL alone would keep quiet about two of these limits."""
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "x_gap.tif"), str(limit), str(root)],
        capture_output=True,
        text=True,
    )
    assert "benexp.core.errors.BenexpError: cannot write" in run.stderr.splitlines()[-1], run.stderr
    assert list(tmp_path.iterdir()) == []


def test_statistics_of_blocks_are_those_of_the_whole() -> None:
    values = np.random.default_rng(0).normal(1e6, 1, 10000).astype(np.float32)
    values[5:50] = np.nan
    statistics = Statistics()
    for part in np.split(values, [0, 10, 3000]):
        statistics.add(part, np.nan)
    assert statistics.count == 10000 - 45
    assert statistics.mean == pytest.approx(np.nanmean(values.astype(float)), rel=1e-12)
    assert statistics.deviation == pytest.approx(np.nanstd(values.astype(float)), rel=1e-9)


def test_python_memory_does_not_grow_with_the_raster(tmp_path: Path) -> None:
    block = smooth((512, 512))
    tracemalloc.start()
    with RasterWriter(
        tmp_path / "x_gap.tif", layer("gap"), shape=(5120, 5120), **GRID, tags=TAGS, class_names=NAMES
    ) as writer:
        for window in windows((5120, 5120)):
            writer.write(block, window)
        writer.finish()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * block.nbytes  # the raster has 100 blocks
