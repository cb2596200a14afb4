"""Patches against what is true, through the command line."""

import importlib.util
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from benexp.backends.base import Backend
from benexp.cli.app import main
from benexp.core.classes import NAMES
from benexp.records.evaluation import PatchEvaluation, decode_evaluation
from benexp.records.storage import to_dict
from tests.evaluation.test_labelled_patches import write_metadata
from tests.products.builders import random_arrays, write_patch

pytest.importorskip("sklearn")

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
PATCH = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_{}"
COMMON = ("task=evaluate", "model=demo", "backend=null", f"backend._target_={__name__}.Knows")


class Knows(Backend):
    """Reads the class off B02: DN 100 times the id, and the next class, half as sure."""

    def _infer(self, patches: np.ndarray) -> np.ndarray:
        ids = np.rint(np.median(patches[:, 0], axis=(1, 2)) / 100).astype(int) % 19
        return np.eye(19, dtype=np.float32)[ids] * 0.9 + np.eye(19, dtype=np.float32)[(ids + 1) % 19] * 0.45


def uniform(which: int) -> dict[str, np.ndarray]:
    arrays = random_arrays((120, 120))
    arrays["B02"][:] = max(1, 100 * which)
    return arrays


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    """Five patches: 0 to 2 of their classes in `test`, the third wrongly labelled; one in `train`; one unknown."""
    for i in range(5):
        write_patch(tmp_path / "ben", name=PATCH.format(f"1_{i}"), arrays=uniform(i))
    columns = {
        "patch_id": [PATCH.format(f"1_{i}") for i in (0, 1, 2, 3, 9)],
        "labels": [[NAMES[0]], [NAMES[1]], [NAMES[7]], [NAMES[3]], [NAMES[3]]],
        "split": ["test", "test", "test", "train", "test"],
    }
    write_metadata(tmp_path / "metadata.parquet", columns)
    return tmp_path / "ben"


def asked(patches: Path) -> list[str]:
    return [*COMMON, f"evaluate.patches={patches}", f"evaluate.metadata={patches.parent / 'metadata.parquet'}"]


def test_labelled_patches(patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main([*asked(patches), f"output_folder={out}"]) == 0
    folder = out / "ben_test"
    assert {path.name for path in folder.iterdir()} == {"ben_test_accuracy.csv", "evaluation.json"}
    content = (folder / "evaluation.json").read_bytes()
    record = json.loads(content)
    read = decode_evaluation(content, "evaluation.json")
    assert isinstance(read, PatchEvaluation)
    assert to_dict(read) == record
    assert record["patches"] == {
        "evaluated": 3,
        "left_out": {
            "labelled but not in evaluate.patches": 1,
            "without labels": 1,
            "of another split": 1,
            "with too few valid pixels": 0,
        },
    }
    by_name = {row["class_name"]: row for row in record["classes"]}
    assert [by_name[NAMES[i]]["f1"] for i in (0, 1, 2, 7, 5)] == [1, 1, 0, 0, None]
    # Class 1 is sure of its own patch before it is half sure of another; 7 finds its patch among the last.
    assert [by_name[NAMES[i]]["average_precision"] for i in (0, 1, 7, 2)] == [1, 1, pytest.approx(1 / 3), None]
    assert record["macro"]["average_precision"] == pytest.approx((1 + 1 + 1 / 3) / 3)
    assert record["macro"]["f1"] == pytest.approx(2 / 3)  # 2, which no patch is labelled with, is not in it
    assert record["micro"]["f1"] == pytest.approx(2 / 3)
    assert (record["backend"]["backend"], record["backend_name"]) == ("Knows", f"{__name__}.Knows")
    assert record["model"]["name"] == "demo"
    assert record["patches_per_second"] > 0
    assert record["config"]["evaluate"]["split"] == "test"
    said = capsys.readouterr().out
    assert f"3 patches with demo on {__name__}.Knows at fp32" in said
    assert "macro: over the 3 classes with a label" in said
    assert "1 labelled but not in evaluate.patches, 1 without labels, 1 of another split" in said


def test_the_backend_has_the_name_that_it_is_asked_for_by(
    patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = [argument for argument in asked(patches) if not argument.startswith("backend._target_")]
    assert main([*own, f"output_folder={tmp_path / 'out'}"]) == 0
    assert "with demo on null at" in capsys.readouterr().out


def test_thresholds_are_those_of_the_multilabel_layer(patches: Path, tmp_path: Path) -> None:
    assert main([*asked(patches), f"output_folder={tmp_path / 'out'}", "layers.thresholds=0.4"]) == 0
    record = json.loads((tmp_path / "out" / "ben_test" / "evaluation.json").read_text())
    assert [row["predicted"] for row in record["classes"]][:4] == [1, 2, 2, 1]


def test_batches_change_nothing(patches: Path, tmp_path: Path) -> None:
    found = []
    for batch in (1, 2, 64):
        out = tmp_path / f"out_{batch}"
        assert (
            main([*asked(patches), "evaluate.split=null", f"backend.batch_size={batch}", f"output_folder={out}"]) == 0
        )
        found.append((out / "ben_all" / "ben_all_accuracy.csv").read_text())
    assert found[0] == found[1] == found[2]
    assert found[0].count("\n") == 1 + 19 + 2


def test_patches_without_enough_data_are_counted(patches: Path, tmp_path: Path) -> None:
    arrays = uniform(1)
    arrays["B05"][10:] = 0
    shutil.rmtree(patches / PATCH.format("1_1"))
    write_patch(patches, name=PATCH.format("1_1"), arrays=arrays)
    assert main([*asked(patches), f"output_folder={tmp_path / 'out'}"]) == 0
    record = json.loads((tmp_path / "out" / "ben_test" / "evaluation.json").read_text())
    assert record["patches"]["evaluated"] == 2
    assert record["patches"]["left_out"]["with too few valid pixels"] == 1
    assert record["classes"][1]["labelled"] == 0


def test_a_dry_run_counts_patches(patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*asked(patches), f"output_folder={tmp_path / 'out'}", "dry_run=true"]) == 0
    assert "ben_test: 3 patches would be classified" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def refused(arguments: list[str], caplog: pytest.LogCaptureFixture, out: Path) -> str:
    """The one line that the user sees; nothing must have been written."""
    with caplog.at_level(logging.ERROR, "benexp"):
        assert main([*arguments, f"output_folder={out}"]) == 1
    assert not out.exists()
    return caplog.records[-1].getMessage()


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["evaluate.split=validation"], "has no patches of it (splits: test, train)"),
        (["evaluate.split=dev"], "evaluate.split=dev: takes train, validation, test, or null: all"),
        (["evaluate.metadata=null"], "evaluate.metadata= is missing"),
        (["evaluate.reference=x.tif"], "evaluate.patches excludes evaluate.reference"),
        (["tile_folder=PATCHES/" + PATCH.format("1_0")], "are what an int8 backend is calibrated on"),
    ],
)
def test_wrong_questions_about_patches(
    patches: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, extra: list[str], words: str
) -> None:
    extra = [argument.replace("PATCHES", str(patches)) for argument in extra]
    assert words in refused([*asked(patches), *extra], caplog, tmp_path / "out")


def test_wrong_patches(patches: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (patches / PATCH.format("1_2") / f"{PATCH.format('1_2')}_B08.tif").unlink()
    assert f"{PATCH.format('1_2')} lacks the bands B08" in refused(asked(patches), caplog, tmp_path / "out")
    metadata = tmp_path / "metadata.parquet"
    names, split = [PATCH.format("1_0")], ["test"]
    write_metadata(metadata, {"patch_id": names, "labels": [["Sea and ocean"]], "split": split})
    assert "'Sea and ocean', a label of" in refused(asked(patches), caplog, tmp_path / "out")
    write_metadata(metadata, {"patch_id": names, "labels": [[]], "split": split})
    assert "have no labelled patch of split test in common" in refused(asked(patches), caplog, tmp_path / "out")


def benv2() -> Path:
    """The real patches that travel inside configilm, found without importing it."""
    spec = importlib.util.find_spec("configilm")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("configilm is not installed")
    return Path(spec.submodule_search_locations[0]) / "extra" / "mock_data" / "BENv2"


def test_the_real_patches(tmp_path: Path) -> None:
    pytest.importorskip("lmdb")
    for name, counts in (
        ("metadata", (6, 6, 12)),
        ("metadata_for_patches_with_snow_cloud_or_shadow", (2, 18, 4)),
    ):
        arguments = [
            f"evaluate.patches={benv2() / 'BigEarthNet-V2-LMDB'}",
            f"evaluate.metadata={benv2() / name}.parquet",
        ]
        assert main([*COMMON, *arguments, f"output_folder={tmp_path / name}"]) == 0
        record = json.loads((tmp_path / name / "BigEarthNet-V2-LMDB_test" / "evaluation.json").read_text())
        left_out = record["patches"]["left_out"]
        found = (record["patches"]["evaluated"], left_out["without labels"], left_out["of another split"])
        assert found == counts
        assert 0 < record["micro"]["average_precision"] < 1
