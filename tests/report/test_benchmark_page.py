"""viewer.html of a sweep, made of made-up jobs: what it says, and how it behaves in a browser, from disk."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from PIL import Image

from benexp.benchmarking.sweep_report import join
from benexp.measure.environment import environment
from benexp.records.figures import Verdict
from benexp.records.tile import DoneTile, FailedTile
from tests.benchmarking.made_up_jobs import FOUR, change, report_of, reports, write_job
from tests.records.builders import ceiling, failed_tile

HOSTILE = "Zürich \"5' <script>alert(1)<&"
FLIP = [[0.1, 0.9, 0.1], *FOUR[1:]]
STOLEN = Verdict("stolen", "warning", "the hypervisor gave 0.5 cores away")


def failed(tile: DoneTile, name: str, error: str) -> FailedTile:
    """The tile as one that failed."""
    kept = ("product", "backend_name", "repeat", "config_hash", "asked", "chunking")
    return failed_tile(name, error, **{key: getattr(tile, key) for key in kept})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of six configurations, in one of which a repeat failed, of tiles and reasons with bad names."""
    made = tmp_path_factory.mktemp("sweep") / HOSTILE
    for chunk in (512, 2048):
        for repeat in (1, 2, 3):
            write_job(made, 4.0 + 0.01 * repeat, chunk=chunk, repeat=repeat, verdicts=[STOLEN])
            write_job(made, 1.0 + 0.01 * repeat + chunk / 9999, backend="openvino", chunk=chunk, repeat=repeat)
            fast = {"backend": "onnxruntime-cpu", "precision": "int8", "answers": FLIP, "gb": 2.0}
            job = write_job(made, 0.5 + 0.01 * repeat + chunk / 9999, chunk=chunk, repeat=repeat, **fast)
    first, second = report_of(job).done
    change(job, status="failed", tiles=[failed(first, HOSTILE, f"{HOSTILE}: band B02 is damaged"), second])
    for place in made.glob("jobs/*/*/b"):
        (place / "viewer.html").touch()
        Image.new("RGB", (8, 8), "green").save(place / "preview.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benexp.benchmarking.sweep_report.write_plots", lambda *_: [])
        assert not join(made, reports(made), lambda _: None)
    return made


def test_the_page_is_one_file_with_everything_escaped(folder: Path) -> None:
    html = (folder / "viewer.html").read_text()
    assert "<script>alert" not in html and "class=&#34;" not in html
    assert len(html) < 2e6
    assert not re.findall(r"<(?:script|img|link)[^>]+(?:src|href)=\"(?!\./|data:)", html)
    assert "band B02 is damaged" in html
    # A failed tile has nothing to show; the other one of that job has.
    assert html.count("<img ") == 18
    assert re.search(r'href="\./jobs/\w{12}/3/b/viewer\.html"><img src="\./jobs/\w{12}/3/b/preview\.png"', html)


def test_what_there_is_is_data_of_the_page(folder: Path) -> None:
    html = (folder / "viewer.html").read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found
    data = json.loads(found[1])
    names = [one["configuration"] for one in data["configurations"]]
    assert names[data["reference"]] == "torch, fp32, chunk 512"
    assert len(data["runs"]) == 36
    pair = (names.index("openvino, fp32, chunk 512"), names.index("torch, fp32, chunk 512"))
    assert next(words for i, j, _, words in data["pairs"] if (i, j) == pair).startswith("faster by 3.8x")


def visible(page: Any, table: str, column: int) -> list[str]:
    script = """([table, column]) => [...document.querySelectorAll(`#${table} tbody tr`)]
        .filter((row) => row.checkVisibility()).map((row) => row.cells[column].innerText.trim())"""
    return list(page.evaluate(script, [table, column]))


def test_the_tables_sort_and_filter_and_show_why_a_run_failed(visit: Callable[..., Any], folder: Path) -> None:
    page = visit(folder / "viewer.html").page
    page.get_by_role("button", name="Patches/s").first.click()
    speeds = [float(text) for text in visible(page, "configurations", 3)]
    assert speeds == sorted(speeds, reverse=True) and len(set(speeds)) > 3
    page.get_by_role("button", name="Patches/s").first.click()
    assert [float(text) for text in visible(page, "configurations", 3)] == speeds[::-1]
    for _ in range(2):
        page.get_by_role("button", name="Pareto front").click()
        fronts = [text != "–" for text in visible(page, "configurations", 9)]
        assert fronts == sorted(fronts, reverse=True) and len(set(fronts)) == 2
    page.get_by_role("button", name="Memory, GB").first.click()
    memory = [float(text) for text in visible(page, "configurations", 7)]
    assert memory == sorted(memory) and len(set(memory)) > 1
    charts = page.locator("#charts .plot").count()
    assert charts >= 6
    page.locator("#words").fill("OpenVINO 512")
    assert visible(page, "configurations", 1) == ["openvino, fp32, chunk 512"]
    assert len(visible(page, "runs", 1)) == 6
    page.locator("#reset").click()
    page.locator("#status").select_option("failed")
    assert [name.split("\n")[0] for name in visible(page, "configurations", 1)] == ["onnxruntime-cpu, int8, chunk 2048"]
    assert visible(page, "runs", 1) == [HOSTILE]
    assert visible(page, "runs", 10) == [f"{HOSTILE}: band B02 is damaged"]
    page.locator("#reset").click()
    assert len(visible(page, "configurations", 1)) == 6


def test_two_configurations_are_compared(visit: Callable[..., Any], folder: Path) -> None:
    page = visit(folder / "viewer.html", width=390).page
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    # Nothing of the comparison is cut off; of the table over it there is enough to see, and a word of the rest.
    assert page.evaluate("differences.scrollWidth <= differences.parentElement.clientWidth")
    ends = page.evaluate("[...configurations.rows[1].cells].map((cell) => cell.getBoundingClientRect().right)")
    assert sum(end <= 390 for end in ends) >= 3
    assert page.get_by_text("goes on to the right").first.is_visible()
    # The recommended one and the reference are picked already; the one that was picked first gives way.
    page.get_by_label("Compare torch, fp32, chunk 2048").check()
    assert not page.get_by_label("Compare onnxruntime-cpu, int8, chunk 512").is_checked()
    page.locator("#first").select_option("onnxruntime-cpu, int8, chunk 512")
    words = page.locator("#verdict").inner_text()
    assert words.startswith("onnxruntime-cpu, int8, chunk 512 is 7.04x as fast as torch, fp32, chunk 2048, by medians")
    assert "repeats of both: faster by 7." in words
    cells = page.evaluate("[...differences.rows].map((row) => [...row.cells].map((cell) => cell.innerText))")
    assert ["chunking.chunk_size", "512", "2048", ""] in cells
    assert ["memory, GB", "2", "1", "2.00×"] in cells
    assert ["other pixels, per million", "125,000", "0", ""] in cells
    assert page.evaluate("document.querySelector('[data-chart=pair] .plot').data.length") == 2
    page.keyboard.press("t")
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two configurations that nothing tells apart; a repeat of one was quicker than without a model, on one batch."""
    monkeypatch.setattr("benexp.benchmarking.sweep_report.write_plots", lambda *_: [])
    for repeat, first, second in ((1, 1.0, 2.0), (2, 4.0, 3.0)):
        job = write_job(tmp_path, first, chunk=512, repeat=repeat)
        unknown: dict[str, Any] = {"latency_seconds": dict.fromkeys(("p50", "p90", "p99")), "batches": 1}
        tiles = [structs.replace(tile, **unknown) for tile in report_of(job).done]
        change(job, tiles=tiles, ceiling=ceiling(2, 2.0))
        write_job(tmp_path, second, repeat=repeat)
    return tmp_path


def test_chance_and_beaten_ceilings_are_told_and_so_is_one_batch(visit: Callable[..., Any], small: Path) -> None:
    assert join(small, reports(small), lambda _: None)
    page = visit(small / "viewer.html").page
    page.locator("#first").select_option("torch, chunk 512")
    page.locator("#second").select_option("torch, chunk 2048")
    words = page.locator("#verdict").inner_text()
    assert words.startswith(
        "Undecided: torch, chunk 512 is 1.00x as fast as torch, chunk 2048, by medians, which may be"
    )
    assert "chance. Over the repeats of both: the interval is too wide. torch, chunk 512: 1 of 2 repeats" in words
    assert words.endswith("measured faster than the ceiling, the same without a model: the machine was disturbed.")
    assert sorted(visible(page, "runs", 9)) == ["20.0"] * 2 + ["30.0"] * 2 + ["one batch"] * 4


def test_the_environment_is_that_of_the_runs(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = environment()
    jobs = reports(small)
    for path in jobs:
        change(path.parent, environment={**here, "processor": "A <1>"})
    assert join(small, jobs, lambda _: None)
    html = (small / "viewer.html").read_text()
    assert "<td>A &lt;1&gt;</td>" in html and "Of all runs." in html
    change(jobs[1].parent, environment=here | {"processor": "B", "machine": "another"})
    assert join(small, jobs, lambda _: None)
    html = (small / "viewer.html").read_text()
    assert '<td class="bad">A &lt;1&gt;; B</td>' in html and "The runs had 2 environments" in html
    assert "<td>2 of them</td>" in html
    (other,) = json.loads((small / "report.json").read_text())["other_environments"]
    assert other["jobs"] == [str(jobs[1].parent.relative_to(small))]


def test_a_chart_is_saved_for_papers(visit: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    page = visit(folder / "viewer.html").page
    for name in ("svg", "png"):
        with page.expect_download() as waiting:
            page.get_by_title(f"Save “Where the time goes” as {name.upper()}").click()
        assert waiting.value.suggested_filename == f"where-the-time-goes.{name}"
        waiting.value.save_as(tmp_path / name)
    assert (tmp_path / "svg").read_text().startswith("<svg")
    assert Image.open(tmp_path / "png").width == 2700


def test_a_long_path_of_a_product_that_failed_everywhere_stays_within_the_page(
    tmp_path: Path, visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benexp.benchmarking.sweep_report.write_plots", lambda *_: [])
    for chunk in (512, 2048):
        job = write_job(tmp_path, chunk=chunk)
        first, second = report_of(job).done
        change(job, tiles=[first, failed(second, second.tile, f"{'long' * 80} is damaged")], status="failed")
    assert not join(tmp_path, reports(tmp_path), lambda _: None)
    page = visit(tmp_path / "viewer.html").page
    assert page.locator(".warning", has_text="Compared over 1 of 2 products").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1200
