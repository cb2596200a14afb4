"""Reruns into a folder that has results: layers are added, and a map of another question is never replaced unasked."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benexp import BenexpError, classify
from benexp.backends.base import Backend
from benexp.cli.app import main
from tests.products.builders import random_arrays, write_folder
from tests.tasks.runs import COUNTING, FAST, Counting, contents, hash_of, rasters

ASKED = (*FAST, *COUNTING, "offset=none")
FULL = ("class", "maxprob", "entropy", "gap", "probs", "multilabel")
CHOICES = "choose another output_folder= or output_name=, or replace it with overwrite=true"


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scl = np.full((90, 100), 4, np.uint8)
    scl[:30] = 3
    return write_folder(tmp_path_factory.mktemp("products") / "tile", arrays=random_arrays((180, 200)), scl=scl)


@pytest.fixture(scope="module")
def done(product: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results that all reruns meet: the whole tile, all layers."""
    out = tmp_path_factory.mktemp("done")
    classify(product, out, *ASKED, "layers=full")
    return out


@pytest.fixture
def out(done: Path, tmp_path: Path) -> Path:
    """A copy of them, with the times that their files have."""
    return Path(shutil.copytree(done, tmp_path / "out", copy_function=shutil.copy2))


def record_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "tile" / "run.json").read_text())
    return found


def layers_of(record: dict[str, Any]) -> set[str]:
    return {name.removeprefix("tile_").removesuffix(".tif") for name in record["files"] if name.endswith(".tif")}


def test_another_product_of_the_same_name_is_another_question(
    product: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = write_folder(out.parent / "other" / "tile", arrays=random_arrays((180, 200), seed=5))
    moved = Path(shutil.copytree(product, out.parent / "moved" / "tile"))
    before = contents(out)
    assert main([f"tile_folder={other}", f"output_folder={out}", *ASKED]) == 1
    error = caplog.records[-1].getMessage()
    assert f"product={product} there, {other} now" in error and CHOICES in error
    assert contents(out) == before
    record = classify(moved, out, *ASKED)
    assert record["grid_reused"]


def test_layers_that_are_not_asked_for_stay_and_are_listed(product: Path, out: Path, classified: list[int]) -> None:
    before = {name: about for name, (about, _) in contents(out / "tile").items()}
    record = classify(product, out, *ASKED)
    assert record["grid_reused"] and not classified
    assert layers_of(record) == set(FULL)
    assert set(record["config"]["layers"]["names"]) == set(FULL)
    after = {name: about for name, (about, _) in contents(out / "tile").items()}
    assert after.keys() == before.keys()
    same = [name for name in after if name.endswith((".tif", ".qml", ".csv", ".png", ".xml"))]
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    item = json.loads((out / "tile" / "tile.json").read_text())
    assets = {asset["href"] for asset in item["assets"].values()}
    assert {f"./tile_{layer}.tif" for layer in FULL} <= assets
    page = (out / "tile" / "viewer.html").read_text()
    assert all(f'href="tile_{layer}.tif"' in page for layer in FULL)


def test_layers_are_added(product: Path, tmp_path: Path) -> None:
    first = classify(product, tmp_path, *ASKED, "layers.names=[class]")
    before = rasters(tmp_path / "tile")
    extra = "layers.extra={half:{function:tests.tasks.test_reruns.half,dtype:float32}}"
    assert layers_of(classify(product, tmp_path, *ASKED, "layers.names=[class,gap]", extra)) == {"class", "gap", "half"}
    third = classify(product, tmp_path, *ASKED, "layers.names=[entropy,class]")
    assert layers_of(third) == {"class", "gap", "half", "entropy"}
    assert third["map_hash"] == first["map_hash"]
    assert rasters(tmp_path / "tile")["tile_class.tif"].tobytes() == before["tile_class.tif"].tobytes()


def half(probabilities: np.ndarray, class_names: Any) -> np.ndarray:
    """A user's own layer."""
    return probabilities[0] / 2


def test_a_layer_that_somebody_deleted_does_not_come_back(product: Path, out: Path) -> None:
    (out / "tile" / "tile_probs.tif").unlink()
    record = classify(product, out, *ASKED)
    assert layers_of(record) == set(FULL) - {"probs"}
    assert not (out / "tile" / "tile_probs.tif").exists()


DIFFERING = [
    (("model.weights=random",), "model=demo ("),
    (("offset=-1000",), "offset=0 there, -1000 now"),
    (("chunking.stride=50",), "chunking.stride=60 there, 50 now"),
    (("mask.scl=[3]",), "mask.scl=[] there, [3] now"),
    (("chunking.min_valid=0.6",), "chunking.min_valid=0.5 there, 0.6 now"),
    (("chunking.blend=flat",), "chunking.blend=sin2 there, flat now"),
    (("layers=full", "layers.thresholds=0.3"), "layers.thresholds=0.5 there, 0.3 now"),
    (("backend.precision=bf16",), "backend.precision=fp32 there, bf16 now"),
    (("backend._target_=tests.tasks.test_own_code.Brightness",), "backend=tests.tasks.runs.Counting there, tests."),
    (("saturated=keep",), "saturated=mask there, keep now"),
]


@pytest.mark.parametrize(("more", "named"), DIFFERING, ids=[more[-1] for more, _ in DIFFERING])
def test_another_question_is_refused_before_any_work(
    more: tuple[str, ...],
    named: str,
    product: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(Backend, "open", lambda *_: pytest.fail("the model was opened"))
    before = contents(out)
    assert main([f"tile_folder={product}", f"output_folder={out}", *ASKED, *more]) == 1
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert line.startswith(f"{out / 'tile'} has a map that answers another question ({named}")
    assert line.endswith(f": {CHOICES}") and "\n" not in line
    assert line.count(" there, ") == 1, "only what differs"
    assert contents(out) == before


def test_another_patch_size_is_refused(
    product: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The patch size of a model that takes any: those of the published networks are fixed."""
    asked = [f"tile_folder={product}", f"output_folder={tmp_path}", *ASKED, "model.weights=random"]
    assert main(asked) == 0
    before = contents(tmp_path)
    monkeypatch.setattr(Backend, "open", lambda *_: pytest.fail("the model was opened"))
    assert main([*asked, "chunking.patch_size=60"]) == 1
    assert "another question (chunking.patch_size=120 there, 60 now)" in caplog.messages[-1]
    assert contents(tmp_path) == before


def test_another_region_under_the_same_name_is_refused(
    product: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = [f"tile_folder={product}", f"output_folder={tmp_path}", *ASKED, "output_name=mine"]
    assert main([*asked, "region.pixels=[0,0,50,60]"]) == 0
    before = contents(tmp_path)
    for other, now in (("region.pixels=[0,0,50,61]", "[0, 0, 50, 61]"), ("seed=42", "None")):
        assert main([*asked, other]) == 1
        assert f"question (region=[0, 0, 50, 60] there, {now} now)" in caplog.messages[-1]
        assert contents(tmp_path) == before
    # As a box it is the same region.
    corner = record_region_corner(tmp_path)
    assert main([*asked, f"region.bbox=[{corner[0]},{corner[1] - 500},{corner[0] + 600},{corner[1]}]"]) == 0


def record_region_corner(out: Path) -> tuple[float, float]:
    transform = json.loads((out / "tile" / "mine" / "run.json").read_text())["transform"]
    return transform[2], transform[5]


def test_all_that_differs_is_named(product: Path, out: Path, caplog: pytest.LogCaptureFixture) -> None:
    more = ["chunking.stride=50", "chunking.blend=flat", "saturated=keep"]
    assert main([f"tile_folder={product}", f"output_folder={out}", *ASKED, *more]) == 1
    for key in ("chunking.stride=60 there, 50 now", "chunking.blend=sin2 there", "saturated=mask there"):
        assert key in caplog.messages[-1]


@pytest.mark.parametrize(
    "more",
    [
        ("backend.batch_size=2",),
        ("backend.threads=1",),
        ("chunking.chunk_size=130",),
        ("integrity=none",),
        ("region.pixels=[0,0,50,60]",),  # it has a folder of its own
    ],
)
def test_how_the_same_map_is_made_is_no_other_question(more: tuple[str, ...], product: Path, out: Path) -> None:
    before = record_of(out)["map_hash"]
    assert main([f"tile_folder={product}", f"output_folder={out}", *ASKED, *more]) == 0
    assert record_of(out)["map_hash"] == before


def test_overwrite_replaces(product: Path, out: Path) -> None:
    before = record_of(out)
    (out / "tile" / "notes.txt").write_text("the user's own")
    record = classify(product, out, *ASKED, "chunking.stride=50", "overwrite=true")
    assert record["config"]["chunking"]["stride"] == 50 and record["grid_key"] != before["grid_key"]
    assert layers_of(record) == {path.stem.removeprefix("tile_") for path in (out / "tile").glob("*.tif")}
    assert layers_of(record) == {"class", "maxprob", "entropy", "gap"}, "those of the other question are gone"
    assert (out / "tile" / "notes.txt").exists()


def test_output_name_puts_it_beside(product: Path, out: Path) -> None:
    before = contents(out)
    record = classify(product, out, *ASKED, "chunking.blend=flat", "output_name=flat")
    assert record["folder"] == "tile/flat" and record["grid_reused"]
    after = contents(out)
    assert {name: after[name] for name in before} == before
    assert hash_of(rasters(out / "tile" / "flat")["tile_class.tif"][0]) == record["map_hash"]


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden"])
def test_an_output_name_is_one_folder(name: str, product: Path, tmp_path: Path) -> None:
    with pytest.raises(BenexpError, match="output_name="):
        classify(product, tmp_path / "out", *ASKED, f"output_name={name}")
    assert not (tmp_path / "out").exists()


def newer_benexp(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("benexp.runs.grid_key.__version__", "99")


def newer_engine(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Counting, "libraries", ("pytest",))


@pytest.mark.parametrize("newer", [newer_benexp, newer_engine])
def test_a_newer_benexp_or_engine_classifies_anew_and_renders_every_layer_again(
    newer: Callable[[pytest.MonkeyPatch], None],
    product: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    classified: list[int],
) -> None:
    caplog.set_level(logging.INFO, "benexp")
    before = rasters(out / "tile")
    newer(monkeypatch)
    monkeypatch.setattr(Counting, "divisor", 300.0)
    record = classify(product, out, *ASKED, "layers.names=[class]")
    assert not record["grid_reused"] and sum(classified) == record["patches"]["all"]
    assert "tile: configuration, input or benexp changed since its grid was saved: classified anew" in caplog.messages
    assert layers_of(record) == set(FULL)
    after = rasters(out / "tile")
    assert after.keys() == before.keys()
    assert all(after[name].tobytes() != before[name].tobytes() for name in after)
    assert record["map_hash"] == hash_of(after["tile_class.tif"][0])
    # All of one map: the classes are those of the probabilities.
    probabilities = after["tile_probs.tif"]
    assert np.array_equal(probabilities.max(0), after["tile_maxprob.tif"][0])
    assert np.array_equal(probabilities.argmax(0), after["tile_class.tif"][0])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{half", "is no record of benexp"),
        ('{"schema_version": 99}', "has schema version 99, this benexp reads version 1"),
        ('{"tile": "tile"}', "has no schema version"),
        ('{"schema_version": 1, "tile": 7}', "is no RunRecord"),
    ],
)
def test_a_record_that_cannot_be_read_is_refused(
    content: str, said: str, product: Path, out: Path, caplog: pytest.LogCaptureFixture, classified: list[int]
) -> None:
    (out / "tile" / "run.json").write_text(content)
    before = contents(out)
    asked = [f"tile_folder={product}", f"output_folder={out}", *ASKED]
    assert main(asked) == 1
    assert said in caplog.messages[-1] and "overwrite=true" in caplog.messages[-1]
    assert not classified and contents(out) == before
    assert main([*asked, "overwrite=true"]) == 0
    assert record_of(out)["tile"] == "tile"


@pytest.mark.parametrize("workers", [1, 2])
def test_of_many_tiles_those_of_another_question_are_refused_and_the_others_done(
    workers: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for seed, name in enumerate(("a", "b")):
        write_folder(tmp_path / "in" / name, arrays=random_arrays((130, 140), seed=seed))
    out = tmp_path / "out"
    classify(tmp_path / "in" / "a", out, *ASKED)
    before = contents(out / "a")
    asked = [f"input_dir={tmp_path / 'in'}", f"output_folder={out}", *ASKED, f"execution.workers={workers}"]
    assert main([*asked, "chunking.blend=flat"]) == 1
    assert [line for line in caplog.messages if line.startswith(f"a: {out / 'a'} has a map that answers another")]
    assert caplog.messages[-1] == "1 of 2 products failed: a"
    assert contents(out / "a") == before
    assert json.loads((out / "b" / "run.json").read_text())["config"]["chunking"]["blend"] == "flat"


def test_benchmarks_keep_their_own_rule(product: Path, tmp_path: Path, no_plots: None) -> None:
    """They measure anew what is another question, in the same folder."""
    asked = [f"tile_folder={product}", f"output_folder={tmp_path}", "task=benchmark", *ASKED, "benchmark.ceiling=false"]
    for stride in (60, 50):
        assert main([*asked, "layers.names=[class]", f"chunking.stride={stride}"]) == 0
        assert record_of(tmp_path)["config"]["chunking"]["stride"] == stride
        report = json.loads((tmp_path / "report.json").read_text())
        assert [tile["reused"] for tile in report["tiles"]] == [False]


def test_jobs_of_a_sweep_have_folders_of_their_own(product: Path, tmp_path: Path) -> None:
    asked = [f"tile_folder={product}", f"output_folder={tmp_path}", *ASKED, "-m"]
    assert main([*asked, "chunking.stride=60,50"]) == 0
    before = {path: path.read_bytes() for path in tmp_path.glob("jobs/*/*/*.tif")}
    assert main([*asked, "chunking.stride=50,40"]) == 0
    assert len(list(tmp_path.glob("jobs/*/tile/run.json"))) == 3
    assert {path: path.read_bytes() for path in before} == before
