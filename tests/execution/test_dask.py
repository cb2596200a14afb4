"""Chunks and tiles on dask's workers: a real scheduler and two workers, and what may happen to them."""

import logging
import signal
import sys
import threading
import time
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from benexp import BenexpError, classify
from benexp.cli.app import main
from benexp.config.schema import Execution
from benexp.execution.clusters import cluster
from tests.execution.conftest import Dask
from tests.execution.troubles import ASKED, ROOT, files, noted
from tests.products.builders import random_arrays, write_folder

pytest.importorskip("distributed")


def test_the_chunks_of_one_tile_on_two_workers_make_the_same_files(
    safe: Path, alone: dict[str, bytes], dask: Dask, notes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (notes / f"slow-{dask.workers[0].pid}").touch()
    with caplog.at_level(logging.INFO):
        record = classify(safe, tmp_path / "out", *ASKED, *dask.asked, f"backend.folder={notes}")
    assert files(tmp_path / "out" / record["tile"]) == alone
    assert record["backend"]["backend"] == "Troubled"
    assert set(noted(notes, "opened").values()) == {1}
    batches = noted(notes, "batches")
    assert set(batches) == {worker.pid for worker in dask.workers}
    assert "2 workers of the scheduler" in caplog.text and "dashboard" in caplog.text


def test_a_region_in_chunks_on_two_workers_and_then_the_rest(
    safe: Path, alone: dict[str, bytes], dask: Dask, notes: Path, tmp_path: Path
) -> None:
    """Workers get the patches that are missing, wherever they lie in a chunk."""
    region = (safe, tmp_path / "out", *ASKED, "region.pixels=[150,170,70,60]")
    there = classify(*region, *dask.asked)
    here = classify(region[0], tmp_path / "here", *region[2:])
    assert files(tmp_path / "out" / there["folder"]) == files(tmp_path / "here" / here["folder"])
    record = classify(safe, tmp_path / "out", *ASKED, *dask.asked)
    made = files(tmp_path / "out" / record["tile"])
    assert made == alone
    assert not record["grid_reused"]
    assert classify(*region)["grid_reused"]


def test_tiles_go_to_workers_and_what_is_left_in_chunks_to_all(
    dask: Dask, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, size in (("a", (130, 130)), ("b", (100, 100)), ("c", (250, 130))):
        write_folder(tmp_path / "products" / name, arrays=random_arrays(size, seed=ord(name)))
    asked = [f"input_dir={tmp_path / 'products'}", "offset=none", *ASKED]
    assert main([*asked, f"output_folder={tmp_path / 'two'}", *dask.asked]) == 1
    assert "1 of 3 products failed: b" in caplog.text and "smaller than one patch" in caplog.text
    assert main([*asked, f"output_folder={tmp_path / 'one'}"]) == 1
    for name in ("a", "c"):
        assert files(tmp_path / "two" / name) == files(tmp_path / "one" / name)


def test_a_worker_that_is_killed_changes_nothing(
    safe: Path, alone: dict[str, bytes], notes: Path, tmp_path: Path
) -> None:
    (notes / "die").touch()
    with Dask(tmp_path, workers=2) as dask:
        record = classify(safe, tmp_path / "out", *ASKED, *dask.asked, f"backend.folder={notes}")
        assert sorted(worker.poll() or 0 for worker in dask.workers) == [-signal.SIGKILL, 0]
    assert len(noted(notes, "opened")) == 2
    assert files(tmp_path / "out" / record["tile"]) == alone


def test_a_scheduler_that_is_gone_is_an_error_and_what_was_done_is_kept(
    safe: Path, alone: dict[str, bytes], notes: Path, tmp_path: Path
) -> None:
    (notes / "slow").touch()
    asked = (*ASKED, f"backend.folder={notes}")
    # Two: a tile as one task its worker would finish.
    with Dask(tmp_path, workers=2) as dask:

        def end() -> None:
            while not list((tmp_path / "out").glob("*/.chunks-*/*.npz")):
                time.sleep(0.02)
            dask.scheduler.kill()

        threading.Thread(target=end, daemon=True).start()
        with pytest.raises(BenexpError, match="does not answer any more: .* the same command goes on from there"):
            classify(safe, tmp_path / "out", *asked, *dask.asked)
    (folder,) = (tmp_path / "out").iterdir()
    assert [path.name[:8] for path in folder.iterdir()] == [".chunks-"]
    (notes / "slow").unlink()
    record = classify(safe, tmp_path / "out", *asked)
    assert record["resumed_chunks"] >= 1
    assert files(folder) == alone


def test_no_worker_and_one_of_another_version(safe: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "benexp").mkdir(parents=True)
    for path in (ROOT / "benexp").iterdir():
        if path.name not in ("version.py", "__pycache__"):
            (other / "benexp" / path.name).symlink_to(path)
    (other / "benexp" / "version.py").write_text('__version__ = "0.0.1"\n')
    with Dask(tmp_path, workers=0) as dask:
        with pytest.raises(BenexpError, match="has no worker after 0.5 s"):
            classify(safe, tmp_path / "out", *ASKED, *dask.asked, "execution.patience=0.5")
        dask.work(other)
        with pytest.raises(BenexpError, match="the worker at tcp://127.0.0.1.* has benexp 0.0.1, here is"):
            classify(safe, tmp_path / "out", *ASKED, *dask.asked)
    assert not (tmp_path / "out").exists()


def test_nobody_listens_there(safe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benexp.execution.dask.CONNECT", 0.5)
    with pytest.raises(BenexpError, match="execution.address=tcp://127.0.0.1:1: no scheduler answers there"):
        classify(safe, tmp_path / "out", *ASKED, "execution=dask", "execution.address=tcp://127.0.0.1:1")


def test_without_the_library_it_says_how_to_install_it(
    safe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(BenexpError, match=r"needs distributed: pip install 'benexp\[dask\]'"):
        classify(safe, tmp_path / "out", *ASKED, "execution=dask")


def test_the_dashboard_is_there_for_this_machine_alone() -> None:
    here = psutil.Process()
    before = {*here.children(recursive=True), *here.net_connections("tcp")}
    with cluster(Execution("dask", workers=1, threads=1)) as made:
        made.wait_for_workers(1)
        with urlopen(made.dashboard_link) as page:
            assert b"bokeh" in page.read().lower()
        listening = [
            connection.laddr.ip
            for process in {here, *here.children(recursive=True)} - before
            for connection in set(process.net_connections("tcp")) - before
            if connection.status == psutil.CONN_LISTEN
        ]
    # The scheduler's port and the dashboard's, and the worker's.
    assert len(listening) >= 3 and set(listening) == {"127.0.0.1"}


@pytest.mark.long
@pytest.mark.parametrize("always", [False, True])
def test_a_worker_of_ours_that_takes_too_much_memory(
    always: bool, safe: Path, alone: dict[str, bytes], notes: Path, tmp_path: Path
) -> None:
    (notes / ("eat-always" if always else "eat")).touch()
    own = ("execution=dask", "execution.workers=1", "execution.threads=1", "execution.memory=900MB")
    asked = (*ASKED, *own, f"backend.folder={notes}")
    if always:
        with pytest.raises(BenexpError, match="4 workers died over the same task: see whether memory is short"):
            classify(safe, tmp_path / "out", *asked)
    else:
        record = classify(safe, tmp_path / "out", *asked)
        assert files(tmp_path / "out" / record["tile"]) == alone
    assert len(noted(notes, "opened")) == (4 if always else 2)
