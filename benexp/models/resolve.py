"""From a `model` configuration to a ModelSpec: finds the weights, wherever they come from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benexp.core.classes import NAMES
from benexp.core.errors import BenexpError
from benexp.models.band_statistics import band_statistics
from benexp.models.published import CONFIG, WEIGHTS, check_folder, read_configuration, sha256
from benexp.models.random_weights import random_checkpoint
from benexp.models.spec import ModelSpec

WEIGHTS_FROM = ("hub", "folder", "random", "onnx")
DEMO_MODEL = Path(__file__).parents[1] / "demo" / "model"
"""The folder of the small model that travels in the package."""

_ONE_SIZE = ("vit_", "mixer_")
_PUBLISHED_SIZE = 120
"""Pixels a side of the patches of BigEarthNet, which the published models were trained on."""


def resolve(model: Mapping[str, Any], *, patch_size: int = 120, seed: int = 0) -> ModelSpec:
    """The model that a `model` configuration asks for; `seed` chooses random weights.

    Fetches from the Hub or builds random weights where that was asked and they are not cached; imports torch for
    nothing but the latter. Raises BenexpError naming the key, file or repository.
    """
    weights = model["weights"]
    if weights not in WEIGHTS_FROM:
        raise BenexpError(f"model.weights={weights}: takes {', '.join(WEIGHTS_FROM)}")
    if weights == "onnx":
        return _export(model, patch_size)

    architecture = _needed(model, "architecture")
    bands = tuple(_needed(model, "bands"))
    means, stds = band_statistics(bands)
    if architecture.startswith(_ONE_SIZE) and patch_size != _PUBLISHED_SIZE:
        raise BenexpError(f"chunking.patch_size={patch_size}: {architecture} takes {_PUBLISHED_SIZE} and nothing else")
    revision = None
    if weights == "hub":
        from benexp.models.hub import fetch

        source = _needed(model, "repo_id")
        _check_trained_size(patch_size, _PUBLISHED_SIZE, model["name"])
        folder, revision = fetch(source, model.get("revision") or "main")
    elif weights == "folder":
        folder, source = _folder(model)
    else:
        folder = random_checkpoint(architecture, bands, seed)
        source = f"random weights, seed {seed}"
    check_folder(folder, architecture, bands)
    if weights == "folder":
        size = read_configuration(folder).get("image_size", _PUBLISHED_SIZE)
        _check_trained_size(patch_size, size, model["name"])
    return ModelSpec(
        name=model["name"],
        architecture=architecture,
        bands=bands,
        means=means,
        stds=stds,
        patch_size=patch_size,
        classes=NAMES,
        weights=weights,
        source=source,
        revision=revision,
        weights_hash=sha256(folder / WEIGHTS),
        path=folder,
        trained=weights != "random",
    )


def _check_trained_size(patch_size: int, trained: int, name: str) -> None:
    """Raise BenexpError for patches of another size: the network takes them, and its map is wrong."""
    if patch_size != trained:
        raise BenexpError(
            f"chunking.patch_size={patch_size}: {name} was trained on patches of {trained} px: leave it at {trained} "
            "(random weights take other sizes)"
        )


def _needed(model: Mapping[str, Any], key: str) -> Any:
    value = model.get(key)
    if not value:
        raise BenexpError(f"model.{key} is not set, and model.weights={model['weights']} needs it")
    return value


def _folder(model: Mapping[str, Any]) -> tuple[Path, str]:
    """The checkpoint's folder, and what to call it."""
    if model.get("path"):
        folder = Path(model["path"]).expanduser()
        return folder, str(folder)
    if model["name"] == "demo":
        return DEMO_MODEL, "the demo model of benexp"
    raise BenexpError(f"model.path is not set: model.weights=folder takes a folder with {CONFIG} and {WEIGHTS}")


def _export(model: Mapping[str, Any], patch_size: int) -> ModelSpec:
    from benexp.models.metadata import spec_of_export

    if not model.get("path"):
        raise BenexpError("model.path is not set: model.weights=onnx takes an .onnx or .xml file that benexp exported")
    path = Path(model["path"]).expanduser()
    if path.suffix == ".bin":
        raise BenexpError(f"model.path={path} is half of a model: name the {path.stem}.xml beside it")
    if not path.is_file():
        raise BenexpError(
            f"model.path={path} is no file: model.weights=onnx takes an .onnx or .xml file that benexp exported"
        )
    return spec_of_export(path, patch_size)
