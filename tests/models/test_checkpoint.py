import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from benexp.core.errors import BenexpError
from benexp.models.checkpoint import load_network, new_network, save_checkpoint
from benexp.models.published import configuration
from benexp.models.spec import ModelSpec
from tests.models.builders import ARCHITECTURE, S2, write_checkpoint

PREFIX = "model.vision_encoder."


@pytest.fixture
def broken(small_model: ModelSpec, tmp_path: Path) -> ModelSpec:
    """A copy of `small_model` that a test may spoil."""
    for file in small_model.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return replace(small_model, path=tmp_path)


def edit(spec: ModelSpec, **changes: torch.Tensor | None) -> str:
    """Change keys of the weights file (None removes); the dots of their names written as two underscores."""
    path = spec.path / "model.safetensors"
    weights = load_file(path)
    for name, value in changes.items():
        key = PREFIX + name.replace("__", ".")
        weights.pop(key, None)
        if value is not None:
            weights[key] = value
    save_file(weights, path)
    return str(path)


@pytest.mark.parametrize("architecture", [ARCHITECTURE, "resnet18", "vit_tiny_patch16_224"])
def test_configilm_and_timm_give_the_same_network(architecture: str, small_model: ModelSpec, tmp_path: Path) -> None:
    pytest.importorskip("configilm")
    spec = replace(small_model, architecture=architecture, path=write_checkpoint(tmp_path, architecture))
    ours, theirs = load_network(spec, "timm"), load_network(spec, "configilm")
    assert type(theirs).__name__ == "ConfigILM"
    patches = torch.randn(3, 10, 120, 120, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(ours(patches), theirs(patches))


@pytest.mark.parametrize("loader", ["timm", "configilm"])
def test_a_saved_network_comes_back(loader: str, small_model: ModelSpec, tmp_path: Path) -> None:
    if loader == "configilm":
        pytest.importorskip("configilm")
    network = load_network(small_model, loader)  # type: ignore[arg-type]
    save_checkpoint(tmp_path / "again", network, ARCHITECTURE, 10)
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (small_model.path / name).read_bytes()


def test_saved_keys_and_configuration_are_the_published_ones(small_model: ModelSpec) -> None:
    weights = load_file(small_model.path / "model.safetensors")
    assert all(key.startswith(PREFIX) for key in weights)
    assert weights[PREFIX + "conv_stem.weight"].shape[1] == 10
    assert weights[PREFIX + "classifier.bias"].shape == (19,)
    assert json.loads((small_model.path / "config.json").read_text()) == configuration(ARCHITECTURE, 10)


def test_published_resnet50_has_the_published_tensors() -> None:
    state = new_network(configuration("resnet50", 10)).state_dict()
    assert len(state) == 320
    assert state["conv1.weight"].shape == (64, 10, 7, 7)
    assert list(state)[-1] == "fc.bias"


@pytest.mark.parametrize("loader", ["timm", "configilm"])
def test_networks_come_in_eval_mode(loader: str, small_model: ModelSpec) -> None:
    if loader == "configilm":
        pytest.importorskip("configilm")
    network = load_network(small_model, loader)  # type: ignore[arg-type]
    assert not any(module.training for module in network.modules())


def test_imagenet_weights_are_not_fetched(broken: ModelSpec) -> None:
    pytest.importorskip("configilm")
    content = configuration(ARCHITECTURE, 10) | {"load_pretrained_timm_if_available": True}
    (broken.path / "config.json").write_text(json.dumps(content))
    # Without a network the attempt would raise.
    load_network(broken, "configilm")


def test_missing_key_is_named(broken: ModelSpec) -> None:
    path = edit(broken, bn1__running_mean=None)
    with pytest.raises(BenexpError) as raised:
        load_network(broken)
    assert str(raised.value).startswith(f"{path} lacks {PREFIX}bn1.running_mean")
    assert "\n" not in str(raised.value)


def test_unexpected_key_is_named(broken: ModelSpec) -> None:
    edit(broken, extra__weight=torch.zeros(1))
    with pytest.raises(BenexpError, match=rf"holds {PREFIX}extra\.weight, which the network has not"):
        load_network(broken)


def test_wrong_shape_is_named(broken: ModelSpec) -> None:
    edit(broken, classifier__bias=torch.zeros(43))
    with pytest.raises(BenexpError, match=rf"{PREFIX}classifier\.bias has shape \[43\], the network needs \[19\]"):
        load_network(broken)


def test_keys_of_bare_timm_are_refused(broken: ModelSpec) -> None:
    path = broken.path / "model.safetensors"
    save_file({key.removeprefix(PREFIX): value for key, value in load_file(path).items()}, path)
    with pytest.raises(BenexpError, match=f"lacks {PREFIX}conv_stem.weight"):
        load_network(broken)


def test_a_damaged_file_is_named(broken: ModelSpec) -> None:
    (broken.path / "model.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(BenexpError, match=r"model\.safetensors cannot be read as safetensors"):
        load_network(broken)


def test_bands_of_the_network_are_the_bands_of_the_specification(small_model: ModelSpec) -> None:
    assert len(small_model.bands) == len(S2)
    with torch.inference_mode():
        assert load_network(small_model)(torch.zeros(1, len(S2), 120, 120)).shape == (1, 19)


@pytest.mark.parametrize("key", ["_fusion_method", "_fusion_activation", "custom_fusion_method"])
def test_no_text_of_the_configuration_is_run(key: str, broken: ModelSpec, tmp_path: Path) -> None:
    """configilm evaluates these, and fetches a language model first, for models of the other type."""
    path = tmp_path / "config.json"
    python = f"__import__('pathlib').Path({str(tmp_path / 'ran')!r}).touch()"
    content = json.loads(path.read_text()) | {"network_type": 1, "hf_model_name": "prajjwal1/bert-tiny", key: python}
    path.write_text(json.dumps(content))
    load_network(broken)
    assert not (tmp_path / "ran").exists()
