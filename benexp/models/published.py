"""The format the models are published in: a folder with `config.json` and `model.safetensors`.

`config.json` is the flat dictionary of configilm's ILMConfiguration. It does not say which bands the network was
trained on nor in which order: that follows from the repository's name and is benexp's to know. No torch here.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benexp.core.classes import CLASSES
from benexp.core.errors import BenexpError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
KEY_PREFIX = "model.vision_encoder."
"""The prefix of every key in the weights file; the rest of a key is timm's."""

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def configuration(architecture: str, channels: int) -> dict[str, Any]:
    """The content of `config.json` for a network of `architecture`, as configilm 0.7.1 writes it."""
    return {
        "timm_model_name": architecture,
        "hf_model_name": None,
        "image_size": 120,
        "channels": channels,
        "classes": len(CLASSES),
        "class_names": [str(c.id) for c in CLASSES],
        "network_type": 0,
        "visual_features_out": 512,
        "fusion_in": 512,
        "fusion_out": 512,
        "fusion_hidden": 256,
        "v_dropout_rate": 0.25,
        "t_dropout_rate": 0.25,
        "fusion_dropout_rate": 0.25,
        "_fusion_method": "torch.mul",
        "_fusion_activation": "nn.Tanh()",
        "drop_rate": 0.15,
        "drop_path_rate": 0.15,
        "use_pooler_output": True,
        "max_sequence_length": 32,
        "load_pretrained_timm_if_available": False,
        "load_pretrained_hf_if_available": True,
        "custom_fusion_method": None,
        "custom_fusion_activation": None,
    }


def read_configuration(folder: Path) -> dict[str, Any]:
    """`config.json` of a checkpoint folder; BenexpError where it is missing or no JSON object."""
    path = folder / CONFIG
    if not path.is_file():
        raise BenexpError(f"{folder} holds no {CONFIG}: model.path takes a folder with {CONFIG} and {WEIGHTS}")
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise BenexpError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise BenexpError(f"{path} is no model configuration: it holds a {type(content).__name__}, not an object")
    return content


def check_folder(folder: Path, architecture: str, bands: Sequence[str]) -> None:
    """Raise BenexpError unless `folder` is a published checkpoint of `architecture` for as many bands as `bands`."""
    if not folder.is_dir():
        raise BenexpError(f"model.path={folder} is no folder: it takes one with {CONFIG} and {WEIGHTS}")
    content = read_configuration(folder)
    path = folder / CONFIG
    if content.get("network_type", 0) != 0:
        # configilm fetches language models for others, and runs texts of the file.
        raise BenexpError(f"{path}: network_type is {content['network_type']}: it takes 0, image classification")
    for key, expected, setting in (
        ("timm_model_name", architecture, "model.architecture"),
        ("channels", len(bands), f"the number of model.bands ({', '.join(bands)})"),
        ("classes", len(CLASSES), "the number of BigEarthNet classes"),
    ):
        if content.get(key) != expected:
            raise BenexpError(f"{path}: {key} is {content.get(key)}, but {setting} is {expected}")
    if not (folder / WEIGHTS).is_file():
        pickles = sorted(entry.name for entry in folder.iterdir() if entry.suffix in _PICKLES)
        if pickles:
            raise BenexpError(
                f"{folder / pickles[0]} is a pickle, which can run code when opened: convert the weights to {WEIGHTS}"
            )
        raise BenexpError(f"{folder} holds no {WEIGHTS}")


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
