import pytest

from benexp.core.errors import BenexpError
from benexp.products.radiometry import dn_table, keep_table


def test_low_numbers_do_not_wrap_around_and_nodata_stays() -> None:
    table = dn_table(-1000, 10000)
    assert table[[0, 1, 500, 999, 1000, 1001, 1002, 65534]].tolist() == [0, 1, 1, 1, 1, 1, 2, 64534]


def test_high_numbers_do_not_wrap_around() -> None:
    assert dn_table(1000, 10000)[[0, 1, 64534, 64535, 65534]].tolist() == [0, 1001, 65534, 65535, 65535]
    assert dn_table(0, 1000)[[1, 6553, 6554, 65534]].tolist() == [10, 65530, 65535, 65535]


def test_the_offset_is_added_before_scaling() -> None:
    assert dn_table(-100, 1000)[[50, 100, 350]].tolist() == [1, 1, 2500]


def test_without_offset_nothing_changes() -> None:
    assert dn_table(0, 10000).tolist() == [*range(65535), 0]


def test_saturated_pixels_are_nodata_unless_they_are_kept() -> None:
    assert dn_table(-1000, 10000)[[65534, 65535]].tolist() == [64534, 0]
    assert dn_table(-1000, 10000, keep_saturated=True)[[65534, 65535]].tolist() == [64534, 64535]


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
