"""Model configurations and published-format checkpoints for tests."""

from pathlib import Path
from typing import Any

S2 = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
ARCHITECTURE = "lcnet_035"


def model_config(**changes: Any) -> dict[str, Any]:
    """A `model` configuration, of the smallest architecture unless told otherwise."""
    return {
        "name": "small",
        "weights": "folder",
        "repo_id": None,
        "revision": None,
        "path": None,
        "architecture": ARCHITECTURE,
        "bands": list(S2),
        **changes,
    }


def write_checkpoint(folder: Path, architecture: str = ARCHITECTURE, channels: int = len(S2)) -> Path:
    """A published-format folder with weights as timm initialises them."""
    from benexp.models.checkpoint import new_network, save_checkpoint
    from benexp.models.published import configuration

    save_checkpoint(folder, new_network(configuration(architecture, channels)), architecture, channels)
    return folder
