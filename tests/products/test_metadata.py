import re
from pathlib import Path

import pytest

from benexp.core.errors import BenexpError
from benexp.products.container import open_container
from benexp.products.metadata import (
    BAND_IDS,
    Metadata,
    baseline_of,
    no_offset,
    parse_metadata,
    read_metadata,
    sensed_in,
)
from tests.products.builders import mtd_xml

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def parse(text: str) -> Metadata:
    return parse_metadata(text.encode(), "MTD_MSIL2A.xml", "/there/MTD_MSIL2A.xml")


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not here")
@pytest.mark.parametrize(
    ("product", "level", "baseline", "offset"),
    [
        ("S2A_MSIL2A_20190212T192651_N0212_R013_T07HFE_20201007T160857", "L2A", "02.12", 0),
        ("S2B_MSIL2A_20220413T150759_N0400_R025_T33XWJ_20220414T082126", "L2A", "04.00", -1000),
        ("S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP_20230626T022158", "L2A", "05.09", -1000),
        ("S2A_MSIL1C_20210908T042701_N0301_R133_T46RER_20210908T070248", "L1C", "03.01", 0),
    ],
)
def test_real_metadata(product: str, level: str, baseline: str, offset: int) -> None:
    metadata = read_metadata(open_container(DATA / "metadata-xml" / f"{product}.SAFE"))
    assert metadata is not None
    assert (metadata.level, metadata.name, metadata.baseline) == (level, product, baseline)
    assert metadata.offsets == dict.fromkeys(BAND_IDS, offset)
    assert metadata.quantification == 10000
    assert metadata.sensed == sensed_in(product).replace("Z", ".024Z")  # type: ignore[union-attr]


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not here")
def test_a_tile_document_in_the_place_of_the_products_tells_the_baseline() -> None:
    metadata = read_metadata(open_container(next((DATA / "mini-safe-N0211").iterdir())))
    assert metadata is not None
    assert (metadata.level, metadata.baseline, metadata.name) == ("L2A", "02.11", None)
    assert metadata.offsets == dict.fromkeys(BAND_IDS, 0)


@pytest.mark.parametrize(
    ("name", "sensed"),
    [
        ("S2B_MSIL2A_20220413T150759_N0400_R025_T33XWJ_20220414T082126", "2022-04-13T15:07:59Z"),
        ("S2A_OPER_PRD_MSIL1C_PDMC_20160318T145513_R008_V20160318T100540_20160318T100540", "2016-03-18T10:05:40Z"),
        ("S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_75_43", "2017-06-13T10:10:31Z"),
        ("GRANULE/T33XWJ_20220413T150759_B02_10m.jp2", "2022-04-13T15:07:59Z"),
        ("T33XWJ_20221399T150759_B02_10m.jp2", None),
        ("B02.tif", None),
    ],
)
def test_time_of_sensing_in_names(name: str, sensed: str | None) -> None:
    assert sensed_in("folder", name) == sensed


@pytest.mark.parametrize("time", ["yesterday", "2022-04-13T15:07:59", "2022-04-13T15:07:59Z<!-- -->x"])
def test_odd_times_are_not_passed_on(time: str) -> None:
    xml = mtd_xml("L2A", "X", "0400", -1000, 10000)
    assert parse(re.sub("(<PRODUCT_URI>)", rf"<PRODUCT_START_TIME>{time}</PRODUCT_START_TIME>\1", xml)).sensed is None


@pytest.mark.parametrize("level", ["L2A", "L1C"])
def test_offsets_and_quantification_of_both_levels(level: str) -> None:
    metadata = parse(mtd_xml(level, "X", "0400", -900, 1000))
    assert metadata.offsets == dict.fromkeys(BAND_IDS, -900)
    assert (metadata.level, metadata.quantification) == (level, 1000)


def test_offsets_belong_to_their_band_ids() -> None:
    xml = mtd_xml("L2A", "X", "0509", -1000, 10000)
    offsets = parse(xml.replace('band_id="8">-1000', 'band_id="8">-500')).offsets
    assert offsets is not None
    assert (offsets["B8A"], offsets["B08"], offsets["B09"]) == (-500, -1000, -1000)


def test_no_offsets_where_a_baseline_should_have_them_is_not_taken_for_zero() -> None:
    assert parse(mtd_xml("L2A", "X", "0509", None, 10000)).offsets is None


def test_a_zero_quantification_and_an_unknown_band_id_are_told() -> None:
    with pytest.raises(BenexpError, match="quantification"):
        parse(mtd_xml("L2A", "X", "0509", -1000, 0))
    with pytest.raises(BenexpError, match="offsets"):
        parse(mtd_xml("L2A", "X", "0509", -1000, 10000).replace('band_id="8"', 'band_id="99"'))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('band_id="12"', 'band_id="-1"'),
        ('band_id="12"', 'band_id="11"'),
        ("-1000", "-1e999"),
        ("-1000", "nan"),
        ("-1000", "-70000"),
        (">10000<", ">inf<"),
        (">10000<", "><"),
        (">10000</BOA_QUANTIFICATION_VALUE>", ">10000</BOA_QUANTIFICATION_VALUE><BOA_QUANTIFICATION_VALUE/>"),
    ],
)
def test_numbers_that_are_none_or_contradict_each_other_are_told(old: str, new: str) -> None:
    xml = mtd_xml("L2A", "X", "0509", -1000, 10000).replace('band_id="11">-1000', 'band_id="11">-999')
    assert parse(xml).offsets
    with pytest.raises(BenexpError, match="cannot be read"):
        parse(xml.replace(old, new))


@pytest.mark.parametrize(
    "baseline", ["-1000", "0", "1.2", "", "٠٢.٠٤", "02.04</PROCESSING_BASELINE><PROCESSING_BASELINE>05.09"]
)
def test_a_baseline_that_is_none_says_nothing_of_offsets(baseline: str) -> None:
    metadata = parse(mtd_xml("L2A", "X", "0204", None, 10000).replace("02.04", baseline))
    assert (metadata.baseline, metadata.offsets) == (None, None)


BOMB = """<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<Level-2A_User_Product><PROCESSING_BASELINE>&b;</PROCESSING_BASELINE></Level-2A_User_Product>"""
OUTSIDE = """<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>
<Level-2A_User_Product><PROCESSING_BASELINE>&a;</PROCESSING_BASELINE></Level-2A_User_Product>"""


CODES = [f'<?xml version="1.0" encoding="{code}"?><x/>' for code in ("nonsense", "shift_jis", "base64")]


@pytest.mark.parametrize("text", [BOMB, OUTSIDE, "<Level-2A_User_Product>", "", "not xml", *CODES])
def test_hostile_and_broken_documents_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(BenexpError, match=r"MTD_MSIL2A\.xml is not readable as XML") as error:
        parse(text)
    assert "\n" not in str(error.value)


def test_another_kind_of_document_is_told() -> None:
    with pytest.raises(BenexpError, match="no Sentinel-2 metadata"):
        parse("<html/>")


def test_two_metadata_files_are_not_chosen_between(tmp_path: Path) -> None:
    for level in ("L1C", "L2A"):
        (tmp_path / f"MTD_MSI{level}.xml").write_text(mtd_xml(level, "X", "0509", -1000, 10000))
    with pytest.raises(BenexpError, match="two metadata files"):
        read_metadata(open_container(tmp_path))


def test_old_names_of_metadata_files(tmp_path: Path) -> None:
    name = "S2A_OPER_MTD_SAFL1C_PDMC_20160310T041843_R008_V20160308T131142_20160308T131142.xml"
    (tmp_path / name).write_text(mtd_xml("L1C", "X", "0201", None, 10000))
    metadata = read_metadata(open_container(tmp_path))
    assert metadata is not None
    assert metadata.file == name


def test_baselines_in_names() -> None:
    assert baseline_of("S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP_20230626T022158") == "05.09"
    assert baseline_of("my tile", "S2A_OPER_MSI_L1C_TL_EPA__20160906T191442_A000734_T32TQM_N02.04") is None
    assert baseline_of("S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP") is None
    assert baseline_of("N0204_x", "x_N0204") == "02.04"


def test_the_offset_is_known_to_be_none_before_baseline_four_only() -> None:
    assert no_offset("03.01") == dict.fromkeys(BAND_IDS, 0)
    assert no_offset("04.00") is None
    assert no_offset("05.09") is None
    assert no_offset(None) is None


@pytest.mark.parametrize(
    ("name", "simulated"), [("Sentinel-2B", False), ("none: made up", True), ("Sentinel-3A", True), (None, False)]
)
def test_a_spacecraft_that_is_no_sentinel_2_makes_a_simulated_product(name: str | None, simulated: bool) -> None:
    xml = mtd_xml("L2A", "X", "0400", -1000, 10000)
    if name:
        xml = xml.replace("</Product_Info>", f"<SPACECRAFT_NAME>{name}</SPACECRAFT_NAME></Product_Info>")
    assert parse(xml).simulated == simulated
