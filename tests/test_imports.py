"""Imports point one way."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield f"{node.module}"
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize(
    ("folder", "never"),
    [
        ("benexp/backends", ("benexp.products", "benexp.tasks", "benexp.report", "exporters")),
        ("benexp/models", ("benexp.backends", "benexp.products", "benexp.tasks", "benexp.report", "exporters")),
        ("benexp/products", ("benexp.backends", "benexp.tasks", "benexp.report", "exporters")),
        ("benexp/report", ("benexp.backends", "benexp.tasks")),
        ("exporters", ("benexp.backends", "benexp.products", "benexp.tasks", "benexp.report")),
    ],
)
def test_nobody_imports_from_above(folder: str, never: tuple[str, ...]) -> None:
    files = list((ROOT / folder).glob("*.py"))
    assert len(files) > 3
    wrong = [f"{file.name}: {name}" for file in files for name in imported(file) if name.startswith(never)]
    assert not wrong
