"""benchmarks/soak.py: it tells a wrong tile from a right one, its faults are faults, and a small one ends well."""

import importlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from benexp.demo.product import write_product

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))
FAULTS = importlib.import_module("faults").FAULTS


@pytest.fixture(scope="module")
def soak() -> ModuleType:
    return importlib.import_module("soak")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_product(tmp_path_factory.mktemp("pristine"), 120, 7)[0]


def test_verdicts(soak: ModuleType, tmp_path: Path) -> None:
    for run in ("clean", "out"):
        (tmp_path / run / "tile").mkdir(parents=True)
        for name in ("run.json", "tile_class.tif", "viewer.html"):
            (tmp_path / run / "tile" / name).write_text(name)
    out, clean = tmp_path / "out", tmp_path / "clean"
    (out / "tile" / "viewer.html").write_text("another time")
    assert soak.verdict("tile", out, clean, []) == "right"
    assert soak.verdict("tile", out, clean, ["tile"]) == "wrong"
    (out / "tile" / "tile_gap.tif").touch()
    assert soak.verdict("tile", out, clean, []) == "wrong"
    (out / "tile" / "tile_gap.tif").unlink()
    (out / "tile" / "tile_class.tif").write_text("another map")
    assert soak.verdict("tile", out, clean, []) == "wrong"
    (out / "tile" / "run.json").unlink()
    assert soak.verdict("tile", out, clean, []) == "unreported"
    errors = ["tile.SAFE: is damaged", "2 of 3 products failed: tile.SAFE, other.zip"]
    assert soak.reported_by(errors) == ["tile", "other"]
    assert soak.verdict("tile", out, clean, soak.reported_by(errors)) == "failed"


def test_what_must_not_be_is_a_problem(soak: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    noticed, unnoticed = FAULTS[0].name, FAULTS[-1].name
    labels = {"a": noticed, "b": unnoticed, "c": soak.KILLED, "d": soak.FULL_DISK}
    good = {"a": "failed", "b": "wrong", "c": "right", "d": "failed"}
    assert soak.tell(labels, good) == []
    assert f"| {unnoticed} | 1 | 0 | 0 | 1 | 0 |" in capsys.readouterr().out
    for tile, bad in (("a", "wrong"), ("b", "unreported"), ("c", "failed"), ("d", "wrong")):
        assert soak.tell(labels, good | {tile: bad}) == [f"{labels[tile]}: 1 tiles ended as they must not"]


def test_what_tiles_of_killed_workers_went_on_from(soak: ModuleType, tmp_path: Path) -> None:
    for tile, chunks, reused in (("a", 3, False), ("b", 0, False), ("c", 0, True), ("d", 2, False), ("e", 9, False)):
        (tmp_path / tile).mkdir()
        record = {"resumed_chunks": chunks, "grid_reused": reused}
        (tmp_path / tile / "run.json").write_text(json.dumps(record))
    told = soak.resumed(tmp_path, {*"abcd", "failed"})
    assert told == "2 went on from 5 kept chunks, 1 from a saved grid, 1 anew"


def test_growth_is_seen(soak: ModuleType) -> None:
    watch = importlib.import_module("watch")

    def run(*megabytes: float) -> SimpleNamespace:
        return SimpleNamespace(
            samples=[watch.MemorySample(n, mb, 20, mb, 20 + n // 10) for n, mb in enumerate(megabytes)]
        )

    flat = watch.growth(run(*range(50, 100), *[100.0] * 151), 50, 200)
    assert [one.what for one in flat if not one.is_flat] == ["open files of all processes"]
    leaking = watch.growth(run(*(100 + n for n in range(201))), 20, 200)
    assert [one.is_flat for one in leaking] == [False, True, False, False]
    assert (leaking[0].early, leaking[0].late) == (119, 299)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_changes_the_product_and_not_the_one_it_is_linked_to(
    fault: object, pristine: Path, tmp_path: Path
) -> None:
    def files(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    before = files(pristine)
    linked = Path(shutil.copytree(pristine, tmp_path / pristine.name, copy_function=os.link))
    fault.inflict(linked, random.Random(1))  # type: ignore[attr-defined]
    assert files(tmp_path) != {f"{pristine.name}/{name}": content for name, content in before.items()}
    assert files(pristine) == before


@pytest.mark.long
def test_a_small_soak_ends_well(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    command = [sys.executable, str(BENCHMARKS / "soak.py"), "--tiles", "12", "--damaged", "4"]
    more = ["--kills", "1", "--fills", "1", "--work", str(tmp_path), "--early", "12"]
    ran = subprocess.run([*command, *more], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "12 of 12 right, 0 leftovers" in ran.stdout
