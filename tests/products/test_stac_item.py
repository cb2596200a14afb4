import json
from pathlib import Path
from typing import Any

import pytest

from benexp.core.errors import BenexpError
from benexp.products import open_product
from benexp.products.stac_item import parse_item
from tests.products.builders import stac_item, write_folder


def parsed(**changes: Any) -> Any:
    return parse_item(stac_item("05.09", -0.1) | changes, "item.json", "x/item.json")


def test_the_facts_of_an_item() -> None:
    item = parsed(id="S2A_33UUP_20230625_0_L2A")
    assert (item.file, item.baseline, item.applied, item.is_l1c) == ("item.json", "05.09", None, False)
    assert item.names == ("S2A_33UUP_20230625_0_L2A",)
    assert item.sensed == "2023-06-25T23:46:21.024Z"
    assert set(item.offsets.values()) == {-1000} and len(item.offsets) == 10


def test_bands_are_known_by_their_files_then_by_the_keys_of_assets() -> None:
    offset = {"raster:bands": [{"offset": -0.1, "scale": 0.0001}]}
    assets = {
        "image": {"href": "https://a.b/c/T33UUP_20230625T234621_B8A_20m.jp2?sig=1&x=B02.tif", **offset},
        "nir": offset,
        "B11_20m": offset,
        "B04": {"href": "s3://x/unnamed", **offset},
        "scl": {"href": "SCL.tif", **offset},
        "visual": offset,
        "odd": 7,
    }
    assert parsed(assets=assets).offsets == dict.fromkeys(("B8A", "B08", "B11", "B04"), -1000)


@pytest.mark.parametrize(
    ("offset", "scale", "expected"), [(-0.1, 0.0001, -1000), (-1000, 1, -1000), (-0.05, 0.0001, -500), (0, 0.0001, 0)]
)
def test_offsets_are_brought_to_dn(offset: float, scale: float, expected: int) -> None:
    assert parsed(assets={"blue": {"raster:offset": offset, "raster:scale": scale}}).offsets == {"B02": expected}


@pytest.mark.parametrize(
    ("offset", "scale"), [(10**400, 1), ("x", 1), (-0.1, 0), (float("nan"), 1), (-1e9, 1), ([], 1), (-0.1, None)]
)
def test_offsets_that_cannot_be_are_refused(offset: Any, scale: Any) -> None:
    with pytest.raises(BenexpError, match=r"x/item\.json: asset 'blue' has offset .* which cannot be"):
        parsed(assets={"blue": {"raster:offset": offset, "raster:scale": scale}})


def test_two_offsets_for_one_band_are_refused() -> None:
    assets = {key: {"raster:offset": offset} for key, offset in (("B02_10m", -0.1), ("B02_20m", 0))}
    with pytest.raises(BenexpError, match="has the offsets -1000 and 0 for B02"):
        parsed(assets=assets)


@pytest.mark.parametrize(
    "content", [[], {}, {"type": "Collection"}, {"type": "Feature", "properties": 1, "assets": []}, "x", None]
)
def test_other_json_says_nothing(tmp_path: Path, content: Any) -> None:
    folder = write_folder(tmp_path / "x")
    (folder / "x.json").write_text(json.dumps(content))
    product = open_product(folder)
    assert not product.warnings
    assert all(not item.offsets and not item.baseline and not item.applied for item in product.items)


@pytest.mark.parametrize(
    ("content", "why"), [(b"{", "readable"), (b"\xff\xfe", "readable"), (b"[" * 10**6, "readable")]
)
def test_json_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, why: str) -> None:
    folder = write_folder(tmp_path / "x")
    (folder / "x.json").write_bytes(content)
    (warning,) = open_product(folder).warnings
    assert f"x.json is not {why} as JSON: nothing is taken from it" in warning


def test_a_large_file_of_json_is_not_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "x")
    with (folder / "fields.geojson").open("wb") as file:
        file.truncate(5 << 20)
    (warning,) = open_product(folder).warnings
    assert "fields.geojson is larger than a STAC item" in warning
