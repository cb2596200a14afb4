"""A reference on a map's grid: placed by nearest, told apart, counted to the last pixel."""

from pathlib import Path

import numpy as np
import pytest

from benexp.core.classes import CLASSES
from benexp.core.errors import BenexpError
from benexp.evaluation import reference as module
from benexp.evaluation.reference import CLC, MapGrid, Reference, class_table, map_grid
from tests.products.builders import ORIGIN, write_band

WEST, NORTH = ORIGIN


def write(path: Path, values: object, dtype: str = "uint8", resolution: int = 10, **options: object) -> Path:
    return write_band(path, np.array(values, dtype), resolution, block=None, **options)  # type: ignore[arg-type]


@pytest.fixture
def grid(tmp_path: Path) -> MapGrid:
    """Of a map of 4 x 6 pixels: `tmp_path / x_class.tif`."""
    mapped = [[1, 1, 2, 2, 3, 255], [1, 1, 2, 2, 3, 255], [1, 1, 2, 2, 3, 3], [1, 1, 2, 2, 3, 3]]
    return map_grid(write(tmp_path / "x_class.tif", mapped, nodata=255))[0]


@pytest.fixture(params=[2048, 3])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", request.param)


def test_a_coarser_reference_is_laid_under_the_map(tmp_path: Path, grid: MapGrid, blocks: None) -> None:
    """20 m pixels that begin one of them to the right: what they do not reach has no value, though none is declared."""
    path = write(tmp_path / "r.tif", [[1, 3], [2, 0]], resolution=20, origin=(WEST + 20, NORTH))
    with Reference(path, grid) as reference:
        assert reference.codes("auto") == "ids"
        found = reference.compare(tmp_path / "x_class.tif", "ids")
    assert {tuple(cell): int(found.matrix[tuple(cell)]) for cell in np.argwhere(found.matrix).tolist()} == {
        (1, 2): 4,
        (3, 3): 2,
        (2, 2): 4,
        (0, 3): 4,
    }
    assert (found.map_nodata, found.reference_nodata, found.unlabelled) == (2, 8, {})


def test_every_pixel_is_accounted_for(tmp_path: Path, grid: MapGrid, blocks: None) -> None:
    codes = [[211, 331, 331, 311, 124, 211], [0, 0, 211, 999, 124, 124], [211] * 6, [212, 213, 212, 211, 0, 9000]]
    path = write(tmp_path / "r.tif", codes, "uint16", nodata=0)
    with Reference(path, grid) as reference:
        with pytest.raises(BenexpError, match=r"r\.tif holds 124, .*, other, which are neither class ids 0 to 18 nor"):
            reference.codes("auto")
        assert reference.codes("clc") == "clc"
        found = reference.compare(tmp_path / "x_class.tif", "clc")
    assert found.unlabelled == {"124": 2, "999": 1, "other": 1}
    assert (found.map_nodata, found.reference_nodata) == (2, 3)
    assert found.matrix[1, 1] == 5
    assert found.matrix[2].tolist()[:3] == [0, 1, 1]
    assert found.matrix.sum() + 2 + 3 + 4 == 24


@pytest.mark.parametrize(
    ("values", "told"),
    [([0, 18, 255], "ids"), ([111, 523, 0], "clc"), ([244, 124, 999], "clc"), ([0, 0, 255], "ids")],
)
def test_codes_are_told_apart(tmp_path: Path, grid: MapGrid, values: list[int], told: str) -> None:
    with Reference(write(tmp_path / "r.tif", [values] * 3, "uint16"), grid) as reference:
        assert reference.codes("auto") == told


@pytest.mark.parametrize("values", [[1, 211], [23, 30], [19, 19], [-1, -1]])
def test_values_that_are_neither_are_refused(tmp_path: Path, grid: MapGrid, values: list[int]) -> None:
    with (
        Reference(write(tmp_path / "r.tif", [values] * 2, "int16"), grid) as reference,
        pytest.raises(BenexpError, match=r"neither class ids 0 to 18 nor CLC codes: .*evaluate.reference_codes="),
    ):
        reference.codes("auto")


def test_a_reference_without_any_class_is_refused(tmp_path: Path, grid: MapGrid) -> None:
    with Reference(write(tmp_path / "r.tif", [[124, 999]], "uint16"), grid) as reference:
        for asked in ("auto", "ids"):
            with pytest.raises(BenexpError, match="holds 124, 999: none of them has a class"):
                reference.codes(asked)


def test_a_reference_elsewhere_is_refused(tmp_path: Path, grid: MapGrid) -> None:
    path = write(tmp_path / "r.tif", [[1, 2]], origin=(WEST + 1000, NORTH))
    with Reference(path, grid) as reference, pytest.raises(BenexpError, match="no value on the map's grid"):
        reference.codes("auto")


def test_a_reference_where_the_map_has_no_class_is_refused(tmp_path: Path, grid: MapGrid) -> None:
    path = write(tmp_path / "r.tif", [[1], [2]], origin=(WEST + 50, NORTH))
    with Reference(path, grid) as reference:
        codes = reference.codes("auto")
        with pytest.raises(BenexpError, match="no pixel has a class in both"):
            reference.compare(tmp_path / "x_class.tif", codes)


def test_what_is_no_reference_is_refused(tmp_path: Path, grid: MapGrid) -> None:
    with pytest.raises(BenexpError, match=r"is in EPSG:32631, the map in EPSG:32633: warp it first: gdalwarp -r near"):
        Reference(write(tmp_path / "crs.tif", [[1]], crs="EPSG:32631"), grid)
    with pytest.raises(BenexpError, match="has 1 bands of float32"):
        Reference(write(tmp_path / "float.tif", [[1]], "float32"), grid)
    with pytest.raises(BenexpError, match=r"none\.tif: cannot be read as a raster"):
        Reference(tmp_path / "none.tif", grid)


def test_what_is_no_class_map_is_refused(tmp_path: Path, grid: MapGrid) -> None:
    with pytest.raises(BenexpError, match="1 bands of uint16: give a class map"):
        map_grid(write(tmp_path / "a.tif", [[1]], "uint16"))
    with pytest.raises(BenexpError, match="no coordinate reference system"):
        map_grid(write(tmp_path / "b.tif", [[1]], crs=None))
    strange = write(tmp_path / "c.tif", np.full((4, 6), 40))
    with (
        Reference(write(tmp_path / "r.tif", [[1]]), grid) as reference,
        pytest.raises(BenexpError, match=r"c\.tif holds 40"),
    ):
        reference.compare(strange, "ids")


def test_the_table_has_every_code_of_every_class() -> None:
    table = class_table("clc")
    for land_cover in CLASSES:
        assert all(table[code] == land_cover.id for code in land_cover.clc)
    assert set(np.flatnonzero(table != 255).tolist()) < CLC
    assert len(CLC) == 44
