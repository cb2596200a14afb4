import json
import re
from pathlib import Path
from typing import Any

import pytest

from benexp.core.errors import BenexpError
from benexp.products import decide_offsets, open_product
from tests.products.builders import TEN, stac_item, write_folder, write_patch, write_safe

TWO = ("B02", "B05")
NEW = "S2A_MSIL2A_20230625T234621_N0509_R073_T33UUP_20230626T022158"
OLD = "S2A_MSIL2A_20181229T095411_N0211_R079_T33UUP_20181229T112231"


def test_the_xml_decides_and_is_named(tmp_path: Path) -> None:
    decision = decide_offsets(open_product(write_safe(tmp_path, offset=-1000)), "auto", TWO)
    assert decision.offsets == {"B02": -1000, "B05": -1000}
    assert decision.source == "MTD_MSIL2A.xml: offset -1000"
    assert decision.stated_by_metadata and not decision.filled_in and decision.overridden is None


@pytest.mark.parametrize(
    ("name", "offset"),
    [
        (OLD, 0),
        (NEW, -1000),
        ("S2B_MSIL2A_20200223T032739_N9999_R018_T48QUE_20230924T183543", None),
        ("my tile", None),
    ],
)
def test_without_xml_the_baseline_in_the_name_decides(tmp_path: Path, name: str, offset: int | None) -> None:
    product = open_product(write_folder(tmp_path / name))
    if offset is None:
        with pytest.raises(BenexpError, match=r"offset=none .* offset=-1000"):
            decide_offsets(product, "auto", TEN)
    else:
        decision = decide_offsets(product, "auto", TEN)
        assert set(decision.offsets.values()) == {offset}
        assert decision.source.startswith(f"{name}: processing baseline 0")


def test_bigearthnet_patches_have_no_offset(tmp_path: Path) -> None:
    assert set(decide_offsets(open_product(write_patch(tmp_path)), "auto", TEN).offsets.values()) == {0}


def test_another_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenexpError, match="offset=maybe: give auto, none or a whole number"):
        decide_offsets(open_product(write_patch(tmp_path)), "maybe", TEN)


def test_a_number_fills_in_where_the_product_states_nothing(tmp_path: Path) -> None:
    decision = decide_offsets(open_product(write_folder(tmp_path / "x")), -300, TWO)
    assert decision.offsets == {"B02": -300, "B05": -300}
    assert decision.filled_in and decision.overridden is None


def test_a_number_that_says_the_same_is_no_override(tmp_path: Path) -> None:
    product = open_product(write_safe(tmp_path, offset=-1000))
    decision = decide_offsets(product, -1000, TWO)
    assert decision.stated_by_metadata and not decision.filled_in and decision.overridden is None


@pytest.mark.parametrize("setting", ["none", -300])
def test_a_number_against_the_product_needs_an_override(tmp_path: Path, setting: int | str) -> None:
    product = open_product(write_safe(tmp_path, offset=-1000))
    with pytest.raises(BenexpError, match=rf"offset={setting} contradicts .*MTD_MSIL2A\.xml: offset -1000.*override"):
        decide_offsets(product, setting, TWO)
    decision = decide_offsets(product, setting, TWO, override=True)
    assert set(decision.offsets.values()) == {0 if setting == "none" else -300}
    assert decision.overridden and "MTD_MSIL2A.xml" in decision.overridden


def test_an_xml_of_a_new_baseline_without_its_offsets_is_not_made_up_for_by_the_name(tmp_path: Path) -> None:
    product = open_product(write_safe(tmp_path, baseline="0509", offset=None))
    with pytest.raises(BenexpError, match="does not say what radiometric offset"):
        decide_offsets(product, "auto", TEN)
    assert decide_offsets(product, -1000, TEN).filled_in


@pytest.mark.parametrize(("name", "offset", "baseline"), [(OLD, -1000, "0509"), (NEW, None, "0211")])
def test_a_name_against_the_xml_stops(tmp_path: Path, name: str, offset: int | None, baseline: str) -> None:
    product = open_product(write_safe(tmp_path, name=name, offset=offset, baseline=baseline))
    with pytest.raises(BenexpError, match=rf"contradicts itself \(MTD_MSIL2A\.xml: offset .*; {name}: processing"):
        decide_offsets(product, "auto", TEN)


def test_an_unusual_offset_in_the_xml_of_a_new_baseline_is_no_contradiction(tmp_path: Path) -> None:
    assert decide_offsets(open_product(write_safe(tmp_path, offset=-900)), "auto", TWO).offsets["B02"] == -900


APPLIED = "earthsearch:boa_offset_applied"


def folder_with(tmp_path: Path, item: dict[str, Any], name: str = "tile") -> Path:
    folder = write_folder(tmp_path / name)
    (folder / "item.json").write_text(json.dumps(item))
    return folder


@pytest.mark.parametrize(
    ("item", "name", "offset", "source"),
    [
        # Earth Search, with a correct flag; what is wrong at times is told apart below.
        (stac_item("05.09", **{APPLIED: True}), "tile", 0, f"item.json: {APPLIED}: true"),
        (stac_item("05.09", **{APPLIED: True}), NEW, 0, f"item.json: {APPLIED}: true"),
        (stac_item("05.09", -0.1, **{APPLIED: False}), "tile", -1000, "item.json: offset -1000"),
        (stac_item("02.12", 0, **{APPLIED: False}), "tile", 0, "item.json: offset 0"),
        # Its Collection 1, and CDSE.
        (stac_item("05.00", -0.1), "tile", -1000, "item.json: offset -1000"),
        (stac_item(None, -0.1, "raster:offset", **{"processing:version": "05.11"}), NEW, -1000, "item.json: offset"),
        (stac_item(None, -0.1, "bands"), "tile", -1000, "item.json: offset -1000"),
        # Planetary Computer: the baseline alone.
        (stac_item("05.09"), "tile", -1000, "item.json: processing baseline 05.09, with an offset"),
        (stac_item("02.12"), "tile", 0, "item.json: processing baseline 02.12, without an offset"),
        ({**stac_item(None), "id": NEW}, "tile", -1000, "item.json: processing baseline 05.09, with an offset"),
    ],
)
def test_a_stac_item_beside_the_bands_decides(
    tmp_path: Path, item: dict[str, Any], name: str, offset: int, source: str
) -> None:
    decision = decide_offsets(open_product(folder_with(tmp_path, item, name)), "auto", TEN)
    assert set(decision.offsets.values()) == {offset}
    assert decision.source.startswith(source)
    assert not decision.stated_by_metadata


@pytest.mark.parametrize(
    ("item", "name", "first", "second"),
    [
        (stac_item("05.09", -0.1, **{APPLIED: True}), "tile", f"item.json: {APPLIED}: true", "item.json: offset -1000"),
        (stac_item("02.12", -0.1), "tile", "item.json: offset -1000", "item.json: processing baseline 02.12, without"),
        (stac_item("05.09", 0), "tile", "item.json: offset 0", "item.json: processing baseline 05.09, with"),
        (stac_item("05.09"), OLD, "item.json: processing baseline 05.09, with", f"{OLD}: processing baseline 02.11"),
    ],
)
def test_contradicting_evidence_stops_and_shows_itself(
    tmp_path: Path, item: dict[str, Any], name: str, first: str, second: str
) -> None:
    product = open_product(folder_with(tmp_path, item, name))
    pattern = (
        rf"contradicts itself \({re.escape(first)}.*; {re.escape(second)}.*\): look at the pixels.*offset_override"
    )
    with pytest.raises(BenexpError, match=pattern):
        decide_offsets(product, "auto", TEN)
    for setting in ("none", -1000):
        with pytest.raises(BenexpError, match=f"offset={setting} contradicts"):
            decide_offsets(product, setting, TEN)
        assert decide_offsets(product, setting, TEN, override=True).overridden


def test_an_offset_of_some_bands_leaves_the_others_unknown(tmp_path: Path) -> None:
    item = stac_item(None, -0.1)
    del item["assets"]["blue"]
    product = open_product(folder_with(tmp_path, item))
    with pytest.raises(BenexpError, match=r"does not say what radiometric offset its bands have \(B02\)"):
        decide_offsets(product, "auto", TEN)
    assert decide_offsets(product, "auto", TEN[1:]).offsets["B03"] == -1000
