"""Tiles in several processes of this machine."""

import logging
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from benexp.cli.app import main
from benexp.execution.local import RETRIES, LocalPool
from tests.execution.troubles import ASKED, files, noted
from tests.products.builders import random_arrays, write_folder

PARTS = """
from tests.execution.troubles import Troubled
def make(scale):
    class Made(Troubled):
        def _infer(self, patches):
            return super()._infer(patches) * scale
    return Made
Made = make(0.5)
water = lambda probabilities, names: probabilities[17:].max(axis=0)
"""


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
    others = multiprocessing.Process(target=time.sleep, args=(600,))
    others.start()
    with caplog.at_level(logging.INFO):
        assert main([*asked, f"output_folder={tmp_path / 'two'}", "execution.workers=2"]) == 1
    assert others.is_alive()
    others.kill()
    others.join()
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


def test_workers_take_lambdas_and_classes_that_functions_made(
    products: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("a", "b"):
        shutil.copytree(products / name, tmp_path / "products" / name)
    mine = ("backend._target_=my_parts.Made", "backend.batch_size=4", "layers.extra.water.function=my_parts.water")
    asked = [f"input_dir={tmp_path / 'products'}", "offset=none", *ASKED, *mine]
    assert main([*asked, f"output_folder={tmp_path / 'two'}", "execution.workers=2"]) == 0
    assert main([*asked, f"output_folder={tmp_path / 'one'}"]) == 0
    for name in ("a", "b"):
        assert f"{name}_water.tif" in (made := files(tmp_path / "two" / name))
        assert made == files(tmp_path / "one" / name)


@pytest.mark.long
def test_a_tile_that_kills_its_process_is_given_up_and_the_others_are_not(
    products: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "die-bright").touch()
    for name in ("a", "b"):
        shutil.copytree(products / name, tmp_path / "products" / name)
    bright = {band: array // 2 + 40_000 for band, array in random_arrays((200, 160)).items()}
    write_folder(tmp_path / "products" / "0", arrays=bright)
    asked = [f"input_dir={tmp_path / 'products'}", "offset=none", *ASKED, f"backend.folder={notes}"]
    assert main([*asked, f"output_folder={tmp_path / 'out'}", "execution.workers=2"]) == 1
    assert "0: worker processes were killed 4 times over it" in caplog.text
    assert caplog.messages[-1] == "1 of 3 products failed: 0"
    assert {path.parent.name for path in tmp_path.glob("out/*/run.json")} == {"a", "b"}


def test_more_deaths_than_tries_of_one_tile_do_not_end_the_run(tmp_path: Path) -> None:
    with LocalPool(Mortals(tmp_path), workers=2) as pool:
        outcomes = dict(pool.outcomes("live", [(number,) for number in range(RETRIES + 3)]))
    assert [outcomes[number].value for number in range(RETRIES + 3)] == list(range(RETRIES + 3))


class Mortals:
    """A task in which every call kills the first process that tries it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, number: int | None) -> None:
        pass

    def close(self) -> None:
        pass

    def live(self, number: int) -> int:
        try:
            (self._folder / f"{number}").touch(exist_ok=False)
        except FileExistsError:
            return number
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_other_tasks_refuse_workers(caplog: pytest.LogCaptureFixture) -> None:
    assert main(["task=benchmark", "input_dir=x", "execution.workers=2"]) == 1
    assert "task=benchmark: takes classify alone" in caplog.messages[0]
