"""viewer.html of a sweep, made of made-up jobs: what it says, and how it behaves in a browser, from disk."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benexp.tasks.joint import join
from tests.tasks.made_up_jobs import FOUR, change, reports, write_job

HOSTILE = "Zürich \"5' <script>alert(1)<&"
FLIP = [[0.1, 0.9, 0.1], *FOUR[1:]]
STOLEN = {"code": "stolen", "severity": "warning", "sentence": "the hypervisor gave 0.5 cores away"}


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
    report = json.loads((job / "report.json").read_text())
    broken = report["tiles"][0] | {"tile": HOSTILE, "status": "failed", "error": f"{HOSTILE}: band B02 is damaged"}
    change(job, status="failed", tiles=[broken, report["tiles"][1]])
    for place in made.glob("jobs/*/*/b"):
        (place / "viewer.html").touch()
        Image.new("RGB", (8, 8), "green").save(place / "preview.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benexp.tasks.joint.write_plots", lambda *_: [])
        assert not join(made, reports(made), lambda _: None)
    return made


def test_the_page_is_one_file_with_everything_escaped(folder: Path) -> None:
    html = (folder / "viewer.html").read_text()
    assert "<script>alert" not in html
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
    assert next(words for i, j, words in data["pairs"] if (i, j) == pair).startswith("faster by 3.8x")


def visible(page: Any, table: str, column: int) -> list[str]:
    script = """([table, column]) => [...document.querySelectorAll(`#${table} tbody tr`)]
        .filter((row) => row.checkVisibility()).map((row) => row.cells[column].innerText.trim())"""
    return list(page.evaluate(script, [table, column]))


def test_the_tables_sort_and_filter_and_show_why_a_run_failed(visit: Callable[..., Any], folder: Path) -> None:
    page = visit(folder / "viewer.html").page
    page.get_by_role("button", name="Patches/s").first.click()
    speeds = [float(text) for text in visible(page, "configurations", 3)]
    assert speeds == sorted(speeds) and len(set(speeds)) > 3
    page.get_by_role("button", name="Patches/s").first.click()
    assert [float(text) for text in visible(page, "configurations", 3)] == speeds[::-1]
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
    monkeypatch.setattr("benexp.tasks.joint.write_plots", lambda *_: [])
    for chunk in (512, 2048):
        job = write_job(tmp_path, chunk=chunk)
        first, second = json.loads((job / "report.json").read_text())["tiles"]
        change(job, tiles=[first, second | {"status": "failed", "error": f"{'long' * 80} is damaged"}], status="failed")
    assert not join(tmp_path, reports(tmp_path), lambda _: None)
    page = visit(tmp_path / "viewer.html").page
    assert page.locator(".warning", has_text="Compared over 1 of 2 products").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1200
