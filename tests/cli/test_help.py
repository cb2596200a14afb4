"""The text of --help."""

import subprocess
import sys

from benexp.cli.help import help_text
from benexp.config.groups import groups


def test_help_names_the_groups_their_choices_and_three_examples() -> None:
    text = help_text()
    for group, choices in groups().items():
        assert group in text
        assert all(choice in text for choice in choices)
    assert text.count("\n  benexp ") >= 4  # the synopsis and three examples
    assert max(map(len, text.splitlines())) <= 120


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['benexp', '--help']; import benexp.__main__ as m; m.main(); print(sorted(sys.modules))"
    )
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("hydra", "numpy", "torch", "rasterio", "onnxruntime"):
        assert f"'{heavy}'" not in modules
