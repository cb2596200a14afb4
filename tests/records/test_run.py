"""run.json: read as it was written, and refused where it is another version's or no record."""

import dataclasses
import json
from pathlib import Path

import jsonschema
import pytest

from benexp import BenexpError, classify
from benexp.records.run import EffectiveResolution, PixelCounts, RunRecord
from benexp.records.storage import json_schema, read_record, write_record
from tests.records.builders import run_record


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_record(tmp_path / "run.json", run_record(seconds=1.5))
    assert read_record(tmp_path / "run.json", RunRecord) == run_record(seconds=1.5)


def test_a_real_record_fits_its_schema(safe: Path, tmp_path: Path) -> None:
    tile = classify(safe, tmp_path, "backend=null", "model=demo")["tile"]
    path = tmp_path / tile / "run.json"
    content = json.loads(path.read_text())
    jsonschema.validate(content, json_schema(RunRecord))
    assert content["schema_version"] == 1
    # No field that the type does not have, and all that it has.
    assert list(content) == [field.name for field in dataclasses.fields(RunRecord)]
    assert read_record(path, RunRecord).tile == tile


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, r"run\.json: has schema version 2, this benexp reads version 1: .* run again"),
        ({"schema_version": None}, r"run\.json: has no schema version, "),
        ({"tile": 7}, r"run\.json: is no RunRecord: .*tile"),
    ],
)
def test_what_is_no_record_of_this_version_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "run.json"
    write_record(path, run_record())
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BenexpError, match=message):
        read_record(path, RunRecord)
    path.write_text("[]")
    with pytest.raises(BenexpError, match=r"run\.json: is no record of benexp"):
        read_record(path, RunRecord)
    with pytest.raises(BenexpError, match=r"absent\.json: cannot be read: No such file"):
        read_record(tmp_path / "absent.json", RunRecord)


def test_pixels_without_a_class_are_told_apart() -> None:
    pixels = PixelCounts.of(all=100, valid=70, classified=55)
    assert (pixels.not_valid, pixels.too_few_valid_around) == (30, 15)


def test_effective_resolution_in_words() -> None:
    assert str(EffectiveResolution(1200, 600)) == "one answer per 1.2 km patch, every 600 m"
    assert str(EffectiveResolution(900, 1000)) == "one answer per 900 m patch, every 1 km"
