import json
from pathlib import Path

import numpy as np
import pytest

from benexp.core.classes import CLASSES, NAMES, named
from benexp.core.errors import BenexpError
from benexp.report.tables import write_areas, write_classmap


def test_areas_are_hectares_and_shares_of_the_classified_area(tmp_path: Path) -> None:
    counts = np.zeros(19, np.int64)
    counts[[0, 2, 10]] = 100, 250, 50
    write_areas(tmp_path / "areas.csv", counts, 100, CLASSES)
    rows = (tmp_path / "areas.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 20
    assert rows[:4] == [
        "class_id,class_name,hectares,share",
        "0,Agro-forestry areas,1.00,0.250000",
        "1,Arable land,0.00,0.000000",
        '2,"Beaches, dunes, sands",2.50,0.625000',
    ]


def test_areas_of_an_empty_map_are_zero(tmp_path: Path) -> None:
    write_areas(tmp_path / "areas.csv", np.zeros(19, np.int64), 100, CLASSES)
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
