import json
from pathlib import Path

import numpy as np
import pytest

from benexp.core.classes import CLASSES, NAMES, named
from benexp.core.errors import BenexpError
from benexp.records.run import PixelCounts
from benexp.report.tables import classified_text, write_areas, write_classmap
from tests.records.builders import run_record


def test_areas_are_hectares_and_shares_of_the_classified_area(tmp_path: Path) -> None:
    counts = np.zeros(19, np.int64)
    counts[[0, 2, 10]] = 100, 250, 50
    record = run_record(pixels=PixelCounts.of(500, 450, 400))
    write_areas(tmp_path / "areas.csv", record, counts, CLASSES)
    rows = (tmp_path / "areas.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 22
    assert rows[-2:] == ["255,no class: not valid,0.50,", "255,no class: too few valid pixels around,0.50,"]
    assert classified_text(record) == (
        "4 of 5 ha classified; no class: 0.5 ha not valid, 0.5 ha too few valid pixels around"
    )
    assert rows[:4] == [
        "class_id,class_name,hectares,share",
        "0,Agro-forestry areas,1.00,0.250000",
        "1,Arable land,0.00,0.000000",
        '2,"Beaches, dunes, sands",2.50,0.625000',
    ]


def test_areas_of_an_empty_map_are_zero(tmp_path: Path) -> None:
    write_areas(tmp_path / "areas.csv", run_record(pixels=PixelCounts.of(9, 0, 0)), np.zeros(19, np.int64), CLASSES)
    assert (tmp_path / "areas.csv").read_text(encoding="utf-8").count(",0.00,0.000000\n") == 19


def test_classmap_says_what_ids_mean(tmp_path: Path) -> None:
    write_classmap(tmp_path / "x.json", NAMES)
    classmap = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert list(classmap) == [str(i) for i in range(19)]
    assert classmap["8"] == {"name": "Inland waters", "colour": "#80f2e6", "clc": [511, 512]}
    assert list(tmp_path.iterdir()) == [tmp_path / "x.json"]


def test_a_class_that_is_not_among_the_19_is_named() -> None:
    with pytest.raises(BenexpError, match="'Lava' is not one of the 19 classes"):
        named(["Pastures", "Lava"])
