import os
import zipfile
from pathlib import Path

import pytest

from benexp.core.errors import BenexpError
from benexp.products import container
from benexp.products.container import DOCUMENT_LIMIT, open_container


def archive(path: Path, *members: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for member in members:
            file.writestr(member, member)
    return path


def test_the_files_of_a_zip_are_named_below_the_folder_that_holds_the_product(tmp_path: Path) -> None:
    opened = open_container(archive(tmp_path / "x.zip", "A.SAFE/MTD_MSIL2A.xml", "A.SAFE/GRANULE/g/IMG_DATA/B02.jp2"))
    assert opened.name == "A"
    assert opened.names == ("GRANULE/g/IMG_DATA/B02.jp2", "MTD_MSIL2A.xml")
    assert opened.read_document("MTD_MSIL2A.xml") == b"A.SAFE/MTD_MSIL2A.xml"


def test_a_zip_without_a_folder_inside_is_named_after_itself(tmp_path: Path) -> None:
    assert open_container(archive(tmp_path / "a b.zip", "B02.tif", "B03.tif")).name == "a b"


def test_what_file_managers_leave_in_zips_and_folders_is_not_seen(tmp_path: Path) -> None:
    opened = open_container(archive(tmp_path / "x.zip", "P/B02.tif", "__MACOSX/P/._B02.tif", "P/.DS_Store"))
    assert opened.names == ("B02.tif",)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "._B02.tif").touch()
    assert open_container(tmp_path / "folder").names == ()


@pytest.mark.parametrize("member", ["../B02.tif", "/etc/B02.tif", "a/../../B02.tif"])
def test_a_zip_that_names_files_outside_itself_is_refused(tmp_path: Path, member: str) -> None:
    with pytest.raises(BenexpError, match="outside itself"):
        open_container(archive(tmp_path / "x.zip", "B03.tif", member))


def test_a_zip_cut_off_by_a_download_is_told_in_one_line(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.zip", "A.SAFE/MTD_MSIL2A.xml")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(BenexpError, match=r"x\.zip cannot be read as a zip .* download it again") as error:
        open_container(path)
    assert "\n" not in str(error.value)


def test_a_missing_path_and_a_stray_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(BenexpError, match="does not exist"):
        open_container(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(BenexpError, match=r"notes\.txt is a file: give"):
        open_container(tmp_path / "notes.txt")


def test_metadata_of_absurd_size_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("MTD_MSIL2A.xml", b" " * (DOCUMENT_LIMIT + 1))
    with pytest.raises(BenexpError, match="no product metadata"):
        open_container(tmp_path / "x.zip").read_document("MTD_MSIL2A.xml")


def test_a_zip_that_names_a_file_twice_is_refused(tmp_path: Path) -> None:
    """Python takes the last one, GDAL the first: one would be verified, and the other one decoded."""
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = archive(tmp_path / "x.zip", "P/B02.tif", "P/B03.tif", "P/B02.tif")
    with pytest.raises(BenexpError, match=r"two files of one name \('P/B02\.tif'\)"):
        open_container(path)


def test_a_member_that_unpacks_to_absurd_sizes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "FREE_SIZE", 200_000)
    for size, fine in ((200_000, True), (200_001, False)):
        with zipfile.ZipFile(tmp_path / f"{size}.zip", "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("B02.tif", bytes(size))
            file.writestr("B03.tif", os.urandom(300_000))
        if fine:
            open_container(tmp_path / f"{size}.zip")
        else:
            with pytest.raises(BenexpError, match=r"'B02\.tif' unpacks to 200001 bytes from \d+: refused"):
                open_container(tmp_path / f"{size}.zip")


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2Jb", "a\u202eb", os.fsdecode(b"a\xff"), "a\x7f"])
def test_a_product_whose_name_upsets_those_who_list_it_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(BenexpError, match="has no usable name"):
        open_container(tmp_path / name)


def test_links_are_followed_inside_a_product_and_not_out_of_it(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    for name in ("x_B02.tif", "B04.tif"):
        (secret / name).write_bytes(b"secret")
    product = tmp_path / "archive" / "P.SAFE"
    images = product / "GRANULE" / "g" / "IMG_DATA"
    images.mkdir(parents=True)
    (images / "x_B03.tif").write_bytes(b"fine")
    (product / "B03.tif").symlink_to(images / "x_B03.tif")
    (product / "B04.tif").symlink_to(secret / "B04.tif")
    (product / "GRANULE" / "h").mkdir()
    (product / "GRANULE" / "h" / "IMG_DATA").symlink_to(secret)
    # A link to the product is the user's own doing.
    (tmp_path / "P.SAFE").symlink_to(product)
    found = open_container(tmp_path / "P.SAFE")
    assert found.open("B03.tif").read() == b"fine"
    for name in ("B04.tif", "GRANULE/h/IMG_DATA/x_B02.tif"):
        for use in (found.gdal_path, found.open, found.stamp):
            with pytest.raises(BenexpError, match=r"is a link out of the product, to .*secret.*: refused"):
                use(name)


def test_names_that_are_not_in_utf8_are_refused(tmp_path: Path) -> None:
    """GDAL cannot open such files, and no page, tag or record can hold such names."""
    (tmp_path / os.fsdecode(b"Z\xfcrich") / "folder").mkdir(parents=True)
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / os.fsdecode(b"Z\xfcrich_B02.tif")).touch()
    for folder in (*tmp_path.glob("Z*"), *tmp_path.glob("Z*/folder"), tmp_path / "flat"):
        with pytest.raises(BenexpError, match="not in UTF-8: rename it|no usable name"):
            open_container(folder)
