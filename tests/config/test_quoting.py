"""The quoting of overrides: every path reaches the configuration unchanged."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from benexp.config.groups import conf_folder
from benexp.config.quoting import quote
from benexp.config.validation import check

AWKWARD = [
    "/data/Zürich",
    "/data/a, b",
    "/data/a(1)",
    "/data/it's",
    "/data/[a]",
    "/data/{a}",
    "/data/x=1",
    "/data/a b ",
    '/data/say "no"',
    "/data/back\\slash",
    "/data/ends\\",
    "/data/quote\\'d",
    "/data/${HOME}",
    "/data/50%#!*?;&|<>",
    "~/x",
    "-x",
    "null-ish: yes",
]


@pytest.mark.parametrize("path", AWKWARD)
def test_paths_reach_the_configuration_as_they_are(path: str) -> None:
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        composed = compose("config", [quote(f"tile_folder={path}"), "model=demo"])
    assert composed.tile_folder == path


@pytest.mark.parametrize("path", [path for path in AWKWARD if not path.startswith("~")])
def test_paths_pass_the_check_as_they_are(path: str) -> None:
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        composed = compose("config", [quote(f"output_folder={path}"), "model=demo"])
    assert check(composed).output_folder == path


def test_only_paths_are_quoted() -> None:
    assert quote("chunking.stride=60") == "chunking.stride=60"
    assert quote("backend=torch,null") == "backend=torch,'null'"
    assert quote("tile_folder=null") == "tile_folder=null"
    assert quote("tile_folder='/a, b'") == "tile_folder='/a, b'"
    assert quote("backend.gain=2") == "++backend.gain=2"
    assert quote("output_folder=~/maps") == f"output_folder='{Path.home()}/maps'"
    assert quote("+model.path=/a, b") == "+model.path='/a, b'"
