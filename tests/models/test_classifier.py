import math
from dataclasses import replace

import pytest
import torch

from benexp.models.classifier import Classifier, load_classifier
from benexp.models.spec import ModelSpec


class MeanPerBand(torch.nn.Module):
    """The "logits" of a patch: the mean of each of its bands."""

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        return patches.mean((2, 3))


def test_patches_are_normalised_and_answers_are_sigmoids(small_model: ModelSpec) -> None:
    spec = replace(small_model, bands=("B02", "B12"), means=(100.0, 1000.0), stds=(10.0, 500.0))
    patches = torch.empty(1, 2, 4, 4)
    patches[0, 0] = 100
    patches[0, 1] = 2000
    # Band means become 0, and 2000 is two standard deviations above 1000.
    answer = Classifier(spec, MeanPerBand())(patches)
    assert answer[0].tolist() == pytest.approx([0.5, 1 / (1 + math.exp(-2))])


def test_answers_stay_float32_under_autocast(small_model: ModelSpec) -> None:
    classifier = load_classifier(small_model)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        answer = classifier(torch.full((2, 10, 120, 120), 500.0))
    assert answer.dtype == torch.float32
    # bf16 knows 256 values between 0.5 and 1, so answers that were ever rounded to it would survive this.
    assert not torch.equal(answer, answer.bfloat16().float())
