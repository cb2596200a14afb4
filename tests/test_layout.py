"""The layout of the source: files that can be read in one go."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONGEST = 350


@pytest.mark.parametrize(
    ("folder", "pattern"),
    [("benexp", "*.py"), ("exporters", "*.py"), ("tests", "*.py"), ("benexp/report/templates", "*.js")],
)
def test_no_file_is_longer_than_the_limit(folder: str, pattern: str) -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / folder).rglob(pattern)}
    assert lengths
    assert {str(path.relative_to(ROOT)): count for path, count in lengths.items() if count > LONGEST} == {}


def test_class_names_are_unique() -> None:
    files = [path for folder in ("benexp", "exporters") for path in (ROOT / folder).rglob("*.py")]
    places: dict[str, list[str]] = {}
    for path in files:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert len(places) > 50
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
