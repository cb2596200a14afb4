"""What is told of a benchmark's memory and disk before it begins, and refused."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from benexp.core.errors import BenexpError
from benexp.runs import estimate
from tests.benchmarking.builders import start, table, write

GB = 10**9


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("products"), first=None)


@pytest.mark.parametrize(
    ("memory", "disk", "message"),
    [
        (GB // 20, GB, "needs about 0.1 GB of memory, and 0.1 GB are free: choose a smaller chunking.chunk_size"),
        (9 * GB, 0, "GB on disk, and 0.0 GB are free: make room on the disk of "),
    ],
)
def test_what_cannot_fit_is_refused_before_any_work(
    memory: int,
    disk: int,
    message: str,
    products: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(estimate, "available_memory", lambda: memory)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=disk))
    assert start(products, tmp_path / "out") == 1
    assert message in caplog.text
    assert "estimate: about 0.1" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    # In a sweep it is a row with its reason.
    assert start(products, tmp_path / "swept", "-m", "benchmark.repeat=1") == 1
    assert [(row["status"], message in row["error"]) for row in table(tmp_path / "swept")] == [("failed", True)]


def test_larger_chunks_batches_and_engines_take_more(
    products: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*overrides: str) -> float:
        assert start(products, tmp_path, "dry_run=true", *overrides) == 0
        return float(capsys.readouterr().out.split("about ")[1].split()[0])

    null = told()
    small, large = (told("backend=torch", f"backend.batch_size={size}") for size in (1, 200))
    assert null < small < large - 0.5


@pytest.mark.parametrize(
    ("memory", "disk", "words"),
    [
        (12 * GB, 5 * GB, "needs about 12.0 GB of memory, and 8.0"),
        (GB, 12 * GB, "needs about 12.0 GB on disk, and 8.0"),
    ],
)
def test_what_may_fit_after_all_is_a_warning(
    memory: int,
    disk: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(estimate, "available_memory", lambda: 8 * GB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=8 * GB))

    def check(times: int, must_fit: bool) -> None:
        caplog.clear()
        estimates = [estimate.Estimate(times * memory, times * disk // 2)] * 2
        estimate.check_fits(estimates, tmp_path, must_fit, lambda _: None)

    check(1, True)
    assert f"{words} GB are free, which may be too little" in caplog.text
    # Twice as much is beyond what the estimate may be off, and the user's own business.
    with pytest.raises(BenexpError, match=r"needs about 24\.0 GB .* 8\.0 GB are free: .*benchmark\.must_fit=false"):
        check(2, True)
    check(2, False)
    assert "needs about 24.0 GB" in caplog.text


def test_files_are_estimated_as_compressed(
    products: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken: list[estimate.Estimate] = []
    real = estimate.estimate
    monkeypatch.setattr(estimate, "estimate", lambda *about: taken.append(real(*about)) or taken[0])
    assert start(products, tmp_path, "dry_run=true") == 0
    assert "240 x 120 pixels" in capsys.readouterr().out
    # A class and three floats for each pixel.
    assert taken[0].disk_bytes == pytest.approx(0.7 * 240 * 120 * (1 + 3 * 4), abs=1)
