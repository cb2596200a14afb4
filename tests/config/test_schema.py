"""Every file under conf/ composes and passes the check; the wheel carries them all."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from benexp.config.groups import conf_folder, groups
from benexp.config.hashing import config_hash
from benexp.config.quoting import quote
from benexp.config.schema import Config
from benexp.config.validation import check
from benexp.core.errors import BenexpError
from benexp.runs.backend_setup import backend_class

REPO = Path(__file__).parents[2]
CHOICES = [(group, name) for group, names in groups().items() for name in names]


def composed(*overrides: str) -> Config:
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return check(compose("config", [quote(override) for override in overrides]))


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_file_composes(group: str, name: str) -> None:
    config = composed(f"{group}={name}")
    backend_class(config.backend)
    if group in ("model", "task", "tracking", "execution"):
        assert getattr(config, group).name == name


@pytest.mark.parametrize("name", [name for name in groups()["model"] if name != "onnx"])
def test_every_model_says_what_it_is(name: str) -> None:
    model = composed(f"model={name}").model
    assert len(model.bands) == 10
    if model.weights == "hub":
        assert model.repo_id.endswith(f"/{name}")
        assert model.revision == "main"
        old = name.endswith("v0.1.1")
        assert model.bands[3:5] == (["B08", "B05"] if old else ["B05", "B06"])


def test_the_hash_is_of_what_was_asked_not_of_where_it_lies() -> None:
    base = config_hash(composed("tile_folder=/a", "output_folder=/b"))
    assert config_hash(composed("tile_folder=/c", "output_folder=/d", "resume=false")) == base
    assert config_hash(composed("benchmark.repeat=3", "task=classify")) == base
    assert config_hash(composed("chunking.stride=30")) != base
    assert config_hash(composed("backend=torch")) != base


def test_a_list_of_backends_is_for_comparisons() -> None:
    assert composed("task=compare", "backends=[torch,null]").backends == ["torch", "null"]
    for task in (name for name in groups()["task"] if name != "compare"):
        with pytest.raises(
            BenexpError, match=rf"^backends=\[torch,null\]: takes effect .*; task={task} runs the one of"
        ):
            composed(f"task={task}", "backends=[torch,null]")


def test_the_wheel_works_from_an_empty_folder(tmp_path: Path) -> None:
    """Configs and templates travel inside it, and its own conf is the one that is used."""
    # Built from a copy: setuptools leaves a build folder behind, and puts what lies in it into the next wheel.
    source = tmp_path / "source"
    for name in ("benexp", "conf", "exporters"):
        shutil.copytree(REPO / name, source / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPO / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", str(source), "--no-deps", "--no-build-isolation", "-q", "-w"]
    subprocess.run([*build, str(tmp_path)], check=True, capture_output=True, text=True)
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    zipfile.ZipFile(next(tmp_path.glob("*.whl"))).extractall(site)
    packed = {path.relative_to(site / "benexp" / "conf") for path in (site / "benexp" / "conf").rglob("*.yaml")}
    assert packed == {path.relative_to(REPO / "conf") for path in (REPO / "conf").rglob("*.yaml")}

    # -P keeps the checkout out of the way: an editable install would be found first.
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r}); import benexp; from benexp.cli.app import main;"
        f"assert benexp.__file__.startswith({str(site)!r});"
        "sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["experiment=demo", "demo.size=240", "output_folder=out"]
    ran = subprocess.run([sys.executable, "-P", "-c", code, *arguments], cwd=empty, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert list(empty.glob("out/*/viewer.html"))
