"""Charts for papers, of made-up jobs."""

import importlib.util
import logging
from pathlib import Path

import pytest
from PIL import Image

from benexp.benchmarking.sweep_report import join
from tests.benchmarking.made_up_jobs import FOUR, change, reports, write_job


def write_sweep(folder: Path) -> Path:
    for repeat in (1, 2):
        write_job(folder, 4.0, repeat=repeat)
        fast = {"precision": "int8", "answers": [[0.1, 0.9, 0.1], *FOUR[1:]]}
        write_job(folder, 1.0, repeat=repeat, backend="$own$", **fast)
    change(write_job(folder, backend="broken"), status="interrupted")
    join(folder, reports(folder), lambda _: None)
    return folder / "plots"


def test_a_sweep_is_drawn_for_papers_always_alike(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    first, second = (write_sweep(tmp_path / name) for name in ("a", "b"))
    names = {f"{name}.{kind}" for name in ("throughput", "pareto", "stages") for kind in ("png", "svg")}
    assert {path.name for path in first.iterdir()} == names
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert Image.open(first / "pareto.png").width == 2100
    drawn = (first / "throughput.svg").read_text()
    assert "$own$, int8" in drawn
    assert "broken" not in drawn


def test_without_matplotlib_a_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name == "matplotlib" else find(name))
    with caplog.at_level(logging.INFO, logger="benexp"):
        assert not write_sweep(tmp_path).exists()
    words = "no plots for papers are drawn: that takes matplotlib (pip install 'benexp[report]')"
    assert caplog.messages.count(words) == 1
