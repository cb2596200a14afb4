from pathlib import Path

import pytest

from benexp.core.errors import BenexpError
from benexp.products import open_product, resolve_offsets
from benexp.products.radiometry import dn_table, keep_table
from tests.products.builders import TEN, write_folder, write_patch, write_safe

TWO = ("B02", "B05")


def test_low_numbers_do_not_wrap_around_and_nodata_stays() -> None:
    table = dn_table(-1000, 10000)
    assert table[[0, 1, 500, 999, 1000, 1001, 1002, 65535]].tolist() == [0, 1, 1, 1, 1, 1, 2, 64535]


def test_high_numbers_do_not_wrap_around() -> None:
    assert dn_table(1000, 10000)[[0, 1, 64534, 64535, 65535]].tolist() == [0, 1001, 65534, 65535, 65535]
    assert dn_table(0, 1000)[[1, 6553, 6554, 65535]].tolist() == [10, 65530, 65535, 65535]


def test_the_offset_is_added_before_scaling() -> None:
    assert dn_table(-100, 1000)[[50, 100, 350]].tolist() == [1, 1, 2500]


def test_without_offset_nothing_changes() -> None:
    assert dn_table(0, 10000).tolist() == list(range(65536))


def test_a_declared_nodata_value_is_nodata_too() -> None:
    assert dn_table(0, 10000, nodata=65535)[[0, 1, 65535]].tolist() == [0, 1, 0]
    assert dn_table(0, 10000, nodata=-9999.0)[1] == 1
    assert dn_table(0, 10000, nodata=float("nan"))[1] == 1


def test_masked_classes() -> None:
    assert keep_table([0, 3, 11])[:13].tolist() == [0, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1]


@pytest.mark.parametrize("masked", [[12], [3, -1]])
def test_a_class_that_does_not_exist_is_told(masked: list[int]) -> None:
    with pytest.raises(BenexpError, match=r"mask\.scl=.* is no class"):
        keep_table(masked)


def test_auto_is_what_the_metadata_says(tmp_path: Path) -> None:
    product = open_product(write_safe(tmp_path, offset=-1000))
    assert resolve_offsets(product, "auto", TWO) == {"B02": -1000, "B05": -1000}
    assert resolve_offsets(product, "none", TWO) == {"B02": 0, "B05": 0}
    assert resolve_offsets(product, -300, TWO) == {"B02": -300, "B05": -300}


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("S2A_MSIL2A_20181229T095411_N0211_R079_T33SVB_20181229T112231", True),
        ("S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP_20230626T022158", False),
        ("S2B_MSIL2A_20200223T032739_N9999_R018_T48QUE_20230924T183543", False),
        ("my tile", False),
    ],
)
def test_without_metadata_the_name_must_say_that_the_product_is_old(tmp_path: Path, name: str, known: bool) -> None:
    product = open_product(write_folder(tmp_path / name))
    if known:
        assert set(resolve_offsets(product, "auto", TEN).values()) == {0}
    else:
        with pytest.raises(BenexpError, match=r"offset=none .* offset=-1000"):
            resolve_offsets(product, "auto", TEN)


def test_bigearthnet_patches_have_no_offset(tmp_path: Path) -> None:
    assert set(resolve_offsets(open_product(write_patch(tmp_path)), "auto", TEN).values()) == {0}


def test_another_setting_is_told(tmp_path: Path) -> None:
    with pytest.raises(BenexpError, match="offset=maybe: give auto, none or a whole number"):
        resolve_offsets(open_product(write_patch(tmp_path)), "maybe", TEN)
