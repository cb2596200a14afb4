"""The model of a run, as records describe it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelRecord:
    """One model, resolved: its weights are at hand and have been hashed.

    `bands` are in the order of the network's input channels; `means` and `stds` are in model DN (reflectance x 10000),
    one per band. `classes` are the names in the order of the outputs.
    """

    name: str
    architecture: str
    """The name timm knows the network by."""
    bands: tuple[str, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]
    patch_size: int
    classes: tuple[str, ...]
    weights: str
    """The source of the weights: `hub`, `folder`, `random` or `onnx`."""
    source: str
    """The repo id, the folder, the seed or the file, in words for tags and reports."""
    revision: str | None
    """The resolved commit of the Hub repository; None elsewhere."""
    weights_hash: str
    """sha256 of the weights file, hexadecimal; of an exported file the hash it carries."""
    trained: bool = True
    """False for random weights, also once they are exported: their maps mean nothing."""
    precision: str = "fp32"
    """The precision of the stored weights; only exported files may have one other than fp32."""
    batch: int | None = None
    """The number of patches that an exported file takes at once; None: any."""
