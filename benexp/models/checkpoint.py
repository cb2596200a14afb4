"""From a checkpoint folder to a network in torch, and back."""

import json
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from benexp.core.disk_limits import limits_named
from benexp.core.errors import BenexpError
from benexp.models.published import CONFIG, KEY_PREFIX, WEIGHTS, configuration
from benexp.models.spec import ModelSpec
from benexp.models.torchvision_shim import import_timm

Loader = Literal["auto", "configilm", "timm"]


def load_network(spec: ModelSpec, loader: Loader = "auto") -> torch.nn.Module:
    """The network of `spec` with its weights, in eval mode: normalised patches [n, bands, p, p] to logits [n, classes].

    `loader` is what builds it: configilm where it is installed (`auto`), else timm; both give the same network.

    Raises BenexpError naming the first key where the weights do not fit the network exactly.
    """
    # Not the content of the file, which was checked to say the same: configilm evaluates some of its texts as Python.
    content = configuration(spec.architecture, len(spec.bands))
    if loader == "auto":
        loader = "configilm" if find_spec("configilm") else "timm"
    network = _configilm_network(content) if loader == "configilm" else new_network(content)
    path = spec.path / WEIGHTS
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise BenexpError(f"{path} cannot be read as safetensors: {error}") from error
    _check_keys(path, weights, _encoder(network).state_dict())
    _encoder(network).load_state_dict({key.removeprefix(KEY_PREFIX): value for key, value in weights.items()})
    # Networks are built in train mode, which would drop features and ignore the batch norms' statistics.
    return network.eval()


def save_checkpoint(folder: Path, network: torch.nn.Module, architecture: str, channels: int) -> None:
    """Write a network that timm calls `architecture`, with `channels` input bands, in the published format."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(configuration(architecture, channels), indent=4) + "\n")
    state = _encoder(network).state_dict()
    weights = {KEY_PREFIX + key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    with limits_named(folder / WEIGHTS, folder / WEIGHTS):
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    # safetensors writes files that only their owner may read.
    (folder / WEIGHTS).chmod(0o644)


def new_network(content: dict[str, Any]) -> torch.nn.Module:
    """A network as timm initialises it, for the `config.json` content (see `published.configuration`)."""
    timm = import_timm()
    # The drop rates are left out: they matter in training only, and not every network knows them.
    arguments = {"in_chans": content["channels"], "num_classes": content["classes"]}
    try:
        try:
            network = timm.create_model(content["timm_model_name"], img_size=content["image_size"], **arguments)
        except TypeError as error:
            # Only networks made for one input size know this argument; it is how configilm tells them apart, too.
            if "img_size" not in str(error):
                raise
            network = timm.create_model(content["timm_model_name"], **arguments)
    except RuntimeError as error:
        raise BenexpError(f"timm cannot build {content['timm_model_name']}: {error}") from error
    assert isinstance(network, torch.nn.Module)
    return network


def _configilm_network(content: dict[str, Any]) -> torch.nn.Module:
    import_timm()
    from configilm.ConfigILM import ConfigILM, ILMConfiguration, ILMType

    known = {**content, "network_type": ILMType.IMAGE_CLASSIFICATION}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Keyword '.*' unknown")
        network = ConfigILM(ILMConfiguration(**known))
    assert isinstance(network, torch.nn.Module)
    return network


def _encoder(network: torch.nn.Module) -> torch.nn.Module:
    """The timm network itself, which configilm keeps under this name."""
    inner = getattr(network, "vision_encoder", network)
    assert isinstance(inner, torch.nn.Module)
    return inner


def _check_keys(path: Path, weights: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> None:
    expected = {KEY_PREFIX + key: value for key, value in state.items()}
    for key in expected:
        if key not in weights:
            raise BenexpError(f"{path} lacks {key}: it holds weights of another network")
    for key, value in weights.items():
        if key not in expected:
            raise BenexpError(f"{path} holds {key}, which the network has not: it holds weights of another network")
        if value.shape != expected[key].shape:
            raise BenexpError(
                f"{path}: {key} has shape {list(value.shape)}, the network needs {list(expected[key].shape)}"
            )
