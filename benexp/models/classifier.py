"""The one module that torch runs and the exporters export: normalise, network, sigmoid."""

from typing import cast

import torch

from benexp.models.checkpoint import load_network
from benexp.models.spec import ModelSpec

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Classifier(torch.nn.Module):
    """Patches [n, bands, p, p] float32 in model DN to class probabilities [n, classes] float32.

    The classes are not exclusive: each probability is a sigmoid of its own. The network alone is of `dtype`: DN do not
    fit into 16 bits, and a sigmoid of bf16 has steps of 0.4 % near 1.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, spec: ModelSpec, network: torch.nn.Module, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        network.to(dtype)  # in place; configilm's own `to` returns nothing
        self.network = network
        self.dtype = dtype
        shape = (1, len(spec.bands), 1, 1)
        self.register_buffer("mean", torch.tensor(spec.means, dtype=torch.float32).reshape(shape))
        self.register_buffer("std", torch.tensor(spec.stds, dtype=torch.float32).reshape(shape))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        normalised = ((patches - self.mean) / self.std).to(self.dtype)
        return cast(torch.Tensor, self.network(normalised).float().sigmoid())


class Answering(torch.nn.Module):
    """The second half of a classifier: patches that are normalised, of its type, to class probabilities float32."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, normalised: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.network(normalised).float().sigmoid())


def load_classifier(spec: ModelSpec, precision: str = "fp32") -> Classifier:
    """The classifier of `spec` with its weights, its network at fp32, bf16 or fp16, in eval mode."""
    return Classifier(spec, load_network(spec), DTYPES[precision]).eval()
