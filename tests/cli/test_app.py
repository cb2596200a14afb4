"""The command line as a whole: its exit code and its output on errors."""

import subprocess
import sys
from pathlib import Path

import pytest

from benexp.cli.app import main


def test_without_a_product_it_says_what_to_give(caplog: pytest.LogCaptureFixture) -> None:
    assert main(["model=demo", "backend=null"]) == 1
    assert "tile_folder= is missing" in caplog.text


def test_errors_are_one_line_whatever_a_name_holds(tmp_path: Path) -> None:
    code = "import sys; from benexp.cli.app import main; sys.exit(main(sys.argv[1:]))"
    for arguments, message in (
        ([f"tile_folder={tmp_path}/a\nb\x1b[31m"], f"{tmp_path}/a\\nb\\x1b[31m does not exist"),
        (
            ["tile_folder=x", b"output_folder=/Z\xfcrich"],
            "output_folder=/Z\\udcfcrich: is not in UTF-8: rename what it names",
        ),
    ):
        ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert ran.returncode == 1
        assert ran.stderr == f"benexp: error: {message}\n"


def test_the_first_export_is_announced(
    products: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("BENEXP_CACHE_DIR", str(tmp_path / "cache"))
    asked = [f"tile_folder={products / 'first'}", f"output_folder={tmp_path / 'out'}", "model=demo", "offset=none"]
    announced = "exporting demo to ONNX at fp32 and checking it against the model: about 10 s on two free cores, once"
    assert main(asked) == 0
    assert caplog.messages.count(announced) == 1
    assert main([*asked, "overwrite=true"]) == 0
    assert caplog.messages.count(announced) == 1
