"""Tiles in several processes of this machine."""

import logging
import os
import shutil
from pathlib import Path

import pytest

from benexp.app import main
from tests.execution.troubles import ASKED, files, noted
from tests.products.builders import random_arrays, write_folder


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three, of which one lacks a band."""
    folder = tmp_path_factory.mktemp("products")
    for name in ("a", "b"):
        write_folder(folder / name, arrays=random_arrays((200, 160), seed=ord(name)))
    bad = random_arrays((130, 130))
    del bad["B11"]
    write_folder(folder / "c", arrays=bad)
    return folder


def test_two_processes_make_the_same_files_also_where_one_is_killed(
    products: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "die").touch()
    asked = [f"input_dir={products}", "offset=none", *ASKED, f"backend.folder={notes}"]
    with caplog.at_level(logging.INFO):
        assert main([*asked, f"output_folder={tmp_path / 'two'}", "execution.workers=2"]) == 1
    assert "1 of 3 products failed: c" in caplog.text and "B11" in caplog.text
    assert "was killed" in caplog.text
    opened = noted(notes, "opened")
    assert os.getpid() not in opened and set(opened.values()) == {1}
    said = capsys.readouterr().out
    assert main([*asked, f"output_folder={tmp_path / 'one'}"]) == 1
    for name in ("a", "b"):
        assert f"written to {tmp_path / 'two' / name}" in said
        assert files(tmp_path / "two" / name) == files(tmp_path / "one" / name)
    one, two = ((tmp_path / which / "collection.json").read_text() for which in ("one", "two"))
    assert one == two


@pytest.mark.long
def test_processes_that_die_again_and_again_are_given_up(
    products: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "die-always").touch()
    shutil.copytree(products / "a", tmp_path / "products" / "a")
    asked = [f"input_dir={tmp_path / 'products'}", "offset=none", *ASKED, f"backend.folder={notes}"]
    assert main([*asked, f"output_folder={tmp_path / 'out'}", "execution.workers=2"]) == 1
    assert "worker processes were killed 4 times, with 1 of 1 tasks left" in caplog.messages[-1]


def test_other_tasks_refuse_workers(caplog: pytest.LogCaptureFixture) -> None:
    assert main(["task=benchmark", "input_dir=x", "execution.workers=2"]) == 1
    assert "task=benchmark: takes classify alone" in caplog.messages[0]
