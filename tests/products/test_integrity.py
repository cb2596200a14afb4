import shutil
import threading
import zipfile
from pathlib import Path

import pytest

from benexp.core.errors import BenexpError
from benexp.products import integrity, open_product
from benexp.products.integrity import check
from tests.products.builders import TEN, write_folder, write_safe, zip_product


def band(safe: Path, name: str) -> Path:
    return next(safe.glob(f"GRANULE/*/IMG_DATA/R*m/*_{name}_*.jp2"))


def flip(path: Path) -> None:
    """Damage the middle of a file, which a decoder need not notice."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def cut(path: Path, share: float = 0.6) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


@pytest.mark.parametrize("algorithm", ["MD5", "SHA3-256"])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_sound_product_passes_every_check(tmp_path: Path, algorithm: str, zipped: bool) -> None:
    path = write_safe(tmp_path, manifest=algorithm)
    product = open_product(zip_product(path) if zipped else path)
    for mode in ("auto", "checksum", "structure", "none"):
        check(product, mode, TEN)


@pytest.mark.parametrize("mode", ["auto", "checksum"])
@pytest.mark.parametrize("algorithm", ["MD5", "SHA3-256"])
def test_checksums_catch_a_flipped_byte(tmp_path: Path, algorithm: str, mode: str) -> None:
    safe = write_safe(tmp_path, manifest=algorithm)
    flip(band(safe, "B07"))
    with pytest.raises(BenexpError, match=r"B07_20m\.jp2 is damaged .*checksum.*download it again"):
        check(open_product(safe), mode, TEN)
    check(open_product(safe), mode, ["B02"])


def test_a_digit_of_the_offset_that_is_another_is_found(tmp_path: Path) -> None:
    safe = write_safe(tmp_path, manifest="MD5")
    metadata = safe / "MTD_MSIL2A.xml"
    metadata.write_text(metadata.read_text().replace(">-1000<", ">-1001<"))
    product = open_product(safe)
    assert product.metadata and product.metadata.offsets
    assert product.metadata.offsets["B02"] == -1001
    with pytest.raises(BenexpError, match=r"MTD_MSIL2A\.xml is damaged .*checksum"):
        check(product, "auto", TEN)
    check(product, "structure", TEN)
    (safe / "manifest.safe").unlink()
    check(open_product(safe), "auto", TEN)


def test_files_are_verified_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(4)
    monkeypatch.setattr("benexp.core.cores.available", lambda: 4)
    monkeypatch.setattr(integrity, "check_checksum", lambda *_: together.wait(30))
    check(open_product(write_safe(tmp_path, size=(130, 130), manifest="MD5")), "auto", TEN[:3])


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.3, 0.6, 0.999])
def test_structure_catches_every_truncation(tmp_path: Path, share: float) -> None:
    safe = write_safe(tmp_path)
    cut(band(safe, "B04"), share)
    product = open_product(safe)
    if share < 0.001:
        # What does not begin as JPEG2000 is left to GDAL, which refuses to open it.
        check(product, "structure", TEN)
        return
    for mode in ("auto", "structure"):
        with pytest.raises(BenexpError, match=r"B04_10m\.jp2 is damaged"):
            check(product, mode, TEN)


def test_a_cut_tile_is_found_where_the_length_of_the_image_is_left_open(tmp_path: Path) -> None:
    safe = write_safe(tmp_path)
    file = band(safe, "B04")
    content = bytearray(file.read_bytes())
    start = content.index(b"jp2c") - 4
    content[start : start + 4] = bytes(4)
    file.write_bytes(content)
    check(open_product(safe), "structure", TEN)
    file.write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(BenexpError, match=r"B04_10m\.jp2 is damaged \(its internal tile \d+ is cut off\)"):
        check(open_product(safe), "structure", TEN)


def test_a_missing_end_marker_is_damage(tmp_path: Path) -> None:
    safe = write_safe(tmp_path)
    file = band(safe, "B04")
    content = file.read_bytes()
    assert content[-2:] == b"\xff\xd9"
    file.write_bytes(content[:-2] + b"\x00\x00")
    with pytest.raises(BenexpError, match=r"B04_10m\.jp2 is damaged"):
        check(open_product(safe), "structure", TEN)


def test_the_scene_classification_is_checked_too(tmp_path: Path) -> None:
    import numpy as np

    safe = write_safe(tmp_path, scl=np.full((120, 150), 4, np.uint8))
    cut(band(safe, "SCL"))
    with pytest.raises(BenexpError, match=r"SCL_20m\.jp2 is damaged"):
        check(open_product(safe), "auto", TEN)


def test_a_damaged_member_of_a_zip_is_told(tmp_path: Path) -> None:
    safe = write_safe(tmp_path, manifest="MD5")
    zipped = zip_product(safe, compression=zipfile.ZIP_STORED)
    content = bytearray(zipped.read_bytes())
    start = content.index(band(safe, "B08").read_bytes())
    content[start + 5000] ^= 0xFF
    zipped.write_bytes(content)
    with pytest.raises(BenexpError, match=r"B08_10m\.jp2 is damaged"):
        check(open_product(zipped), "auto", TEN)


def test_checksums_asked_for_without_a_manifest_are_told(tmp_path: Path) -> None:
    safe = write_safe(tmp_path)
    with pytest.raises(BenexpError, match=r"no checksum of .*B02_10m\.jp2 in a manifest\.safe: integrity=checksum"):
        check(open_product(safe), "checksum", TEN)
    with pytest.raises(BenexpError, match="integrity=checksum"):
        check(open_product(write_folder(tmp_path / "flat")), "checksum", TEN)
    check(open_product(write_folder(tmp_path / "flat")), "auto", TEN)


def test_an_unknown_kind_of_checksum_is_told(tmp_path: Path) -> None:
    safe = write_safe(tmp_path, manifest="MD5")
    manifest = safe / "manifest.safe"
    manifest.write_text(manifest.read_text().replace('"MD5"', '"CRC9"'))
    with pytest.raises(BenexpError, match="unknown kind .'CRC9'.: give integrity=structure"):
        check(open_product(safe), "auto", TEN)
    check(open_product(safe), "structure", TEN)


def test_an_unknown_mode_and_a_missing_band_are_told(tmp_path: Path) -> None:
    safe = write_safe(tmp_path)
    with pytest.raises(BenexpError, match="integrity=maybe: give one of"):
        check(open_product(safe), "maybe", TEN)
    shutil.rmtree(next(safe.glob("GRANULE/*/IMG_DATA/R20m")))
    with pytest.raises(BenexpError, match="lacks the bands B05"):
        check(open_product(safe), "auto", TEN)
