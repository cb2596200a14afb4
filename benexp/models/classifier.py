"""The one module that torch runs and the exporters export: normalise, network, sigmoid."""

from typing import cast

import torch

from benexp.models.checkpoint import load_network
from benexp.models.spec import ModelSpec


class Classifier(torch.nn.Module):
    """Patches [n, bands, p, p] float32 in model DN to class probabilities [n, classes] float32.

    The classes are not exclusive: each probability is a sigmoid of its own.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, spec: ModelSpec, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        shape = (1, len(spec.bands), 1, 1)
        self.register_buffer("mean", torch.tensor(spec.means, dtype=torch.float32).reshape(shape))
        self.register_buffer("std", torch.tensor(spec.stds, dtype=torch.float32).reshape(shape))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        logits = self.network((patches - self.mean) / self.std)
        # Under autocast the logits are bf16, whose sigmoid has steps of 0.4 % near 1.
        return cast(torch.Tensor, logits.float().sigmoid())


def load_classifier(spec: ModelSpec) -> Classifier:
    """The classifier of `spec` with its weights, in eval mode."""
    return Classifier(spec, load_network(spec)).eval()
