import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from benexp.core.classes import NAMES
from benexp.core.errors import BenexpError
from benexp.models import resolve as resolving
from benexp.models.band_statistics import band_statistics
from benexp.models.published import sha256
from benexp.models.resolve import resolve
from benexp.models.spec import ModelSpec
from tests.models.builders import S2, model_config

SHIPPED = sorted((Path(__file__).parents[2] / "conf" / "model").glob("*.yaml"))
KEYS = ["name", "weights", "repo_id", "revision", "path", "architecture", "bands"]
V1_ORDER = ["B02", "B03", "B04", "B08", "B05", "B06", "B07", "B11", "B12", "B8A"]


def test_a_folder_resolves(small_model: ModelSpec) -> None:
    spec = resolve(model_config(path=str(small_model.path)))
    assert spec.path == small_model.path
    assert spec.bands == S2
    assert (spec.means, spec.stds) == band_statistics(S2)
    assert spec.classes == NAMES
    assert spec.patch_size == 120
    assert spec.revision is None
    assert spec.trained
    assert spec.weights_hash == sha256(small_model.path / "model.safetensors")


def test_random_weights_are_cached_and_follow_the_seed(small_model: ModelSpec) -> None:
    config = model_config(weights="random")
    written = small_model.path.joinpath("model.safetensors").stat().st_mtime_ns
    assert resolve(config) == small_model
    assert small_model.path.joinpath("model.safetensors").stat().st_mtime_ns == written
    assert not small_model.trained
    assert small_model.source == "random weights, seed 0"
    left = small_model.path.parent / ".export-of-a-process-that-was-killed"
    left.mkdir()
    os.utime(left, (0, 0))
    other = resolve(config, seed=1)
    assert other.weights_hash != small_model.weights_hash
    assert not left.exists()
    assert {other.path, small_model.path} <= set(other.path.parent.iterdir())


def test_the_model_in_the_package_is_the_demo_s_default(
    small_model: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolving, "DEMO_MODEL", small_model.path)
    spec = resolve(model_config(name="demo"))
    assert spec == replace(small_model, name="demo", weights="folder", source="the demo model of benexp", trained=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": "web"}, r"model\.weights=web: takes hub, folder, random, onnx"),
        ({}, r"model\.path is not set: model\.weights=folder"),
        ({"weights": "onnx"}, r"model\.path is not set: model\.weights=onnx"),
        ({"weights": "onnx", "path": "gone.onnx"}, r"model\.path=gone\.onnx is no file"),
        ({"weights": "hub"}, r"model\.repo_id is not set"),
        ({"weights": "random", "architecture": None}, r"model\.architecture is not set"),
        ({"weights": "random", "bands": []}, r"model\.bands is not set"),
        ({"weights": "random", "architecture": "resnet50_of_mine"}, "timm cannot build resnet50_of_mine"),
    ],
)
def test_what_is_missing_or_wrong_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(BenexpError, match=message):
        resolve(model_config(**changes))


@pytest.mark.parametrize("architecture", ["vit_base_patch8_224", "mixer_b16_224"])
def test_networks_of_one_size_take_120_only(architecture: str) -> None:
    with pytest.raises(BenexpError, match=rf"chunking\.patch_size=96: {architecture} takes 120"):
        resolve(model_config(weights="random", architecture=architecture), patch_size=96)


def test_trained_networks_take_the_size_that_they_were_trained_on(small_model: ModelSpec, tmp_path: Path) -> None:
    assert resolve(model_config(weights="random"), patch_size=96).patch_size == 96
    with pytest.raises(BenexpError, match=r"chunking\.patch_size=96: small was trained on patches of 120 px"):
        resolve(model_config(path=small_model.path), patch_size=96)
    own = shutil.copytree(small_model.path, tmp_path / "own")
    content = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(content | {"image_size": 96}))
    assert resolve(model_config(path=own), patch_size=96).patch_size == 96


def test_a_wrong_size_is_refused_before_weights_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benexp.models.hub.fetch", lambda *_: pytest.fail("the Hub was asked"))
    with pytest.raises(BenexpError, match=r"chunking\.patch_size=96: small was trained on patches of 120 px"):
        resolve(model_config(weights="hub", repo_id="a/b"), patch_size=96)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configurations(path: Path) -> None:
    content = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(content, dict)
    assert list(content) == KEYS
    assert content["name"] == path.stem
    if content["weights"] == "hub":
        owner, name = content["repo_id"].split("/")
        assert owner in ("BIFOLD-BigEarthNetv2-0", "hackelle")
        assert name == content["name"] == f"{content['architecture']}-s2-{name.rpartition('-')[2]}"
        assert content["revision"] == "main"
        assert content["bands"] == (V1_ORDER if name.endswith("v0.1.1") else list(S2))


def test_v020_bands_are_configilm_s() -> None:
    published = pytest.importorskip("configilm.extra.BENv2_utils")
    assert published.STANDARD_BANDS[10] == list(S2)


def test_the_demo_model_is_the_one_that_its_configuration_names() -> None:
    demo = next(path for path in SHIPPED if path.stem == "demo")
    content = OmegaConf.to_container(OmegaConf.load(demo))
    assert isinstance(content, dict)
    assert resolve({str(key): value for key, value in content.items()}).path == resolving.DEMO_MODEL
