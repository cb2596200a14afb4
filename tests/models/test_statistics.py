import pytest

from benexp.core.errors import BenexpError
from benexp.models.band_statistics import MEANS, STDS, band_statistics


def test_statistics_are_those_of_the_installed_package() -> None:
    published = pytest.importorskip("configilm.extra.BENv2_utils")
    assert published.means["120_nearest"] == MEANS
    assert published.stds["120_nearest"] == STDS


def test_statistics_come_in_the_order_of_the_bands() -> None:
    means, stds = band_statistics(["B12", "B02"])
    assert means == (997.7324829101562, 438.3720703125)
    assert stds == (813.5276489257812, 607.02685546875)


def test_unknown_band_is_named() -> None:
    with pytest.raises(BenexpError, match=r"model\.bands: 'B10'"):
        band_statistics(["B02", "B10"])
