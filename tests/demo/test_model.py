"""The demo model is in the published format, and finds what is there on landscapes it has not seen."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from safetensors import safe_open

from benexp.cli.app import main
from benexp.demo.train import FIRST_SEED, batches, scene
from benexp.models.resolve import DEMO_MODEL


def test_the_checkpoint_is_small_and_in_the_published_format() -> None:
    weights = DEMO_MODEL / "model.safetensors"
    assert weights.stat().st_size < 5_000_000
    content = json.loads((DEMO_MODEL / "config.json").read_text())
    assert content["channels"] == 10
    assert content["classes"] == 19
    assert content["image_size"] == 120
    assert content["network_type"] == 0
    with safe_open(weights, "np") as file:
        assert all(key.startswith("model.vision_encoder.") for key in file.keys())  # noqa: SIM118


def test_training_patches_are_normalised_and_their_shares_sum_to_one() -> None:
    patches, shares = next(batches([scene(240, FIRST_SEED)], 8, seed=0))
    assert patches.shape == (8, 10, 120, 120)
    assert abs(float(patches.mean())) < 2
    assert np.allclose(shares.sum(1), 1)


@pytest.mark.parametrize("seed", [7, 8])
def test_its_map_agrees_with_the_truth_far_above_chance(seed: int, tmp_path: Path) -> None:
    assert seed < FIRST_SEED
    assert main(["experiment=demo", f"demo.seed={seed}", f"output_folder={tmp_path}"]) == 0
    with rasterio.open(next(tmp_path.glob("products/*_truth.tif"))) as raster:
        truth = raster.read(1)
    with rasterio.open(next(tmp_path.glob("*/*_class.tif"))) as raster:
        found = raster.read(1)
    seen = (truth != 255) & (found != 255)
    assert seen.mean() > 0.8
    agreement = (truth == found)[seen].mean()
    chance = np.bincount(truth[seen]).max() / seen.sum()
    print(f"seed {seed}: {agreement:.3f} of the pixels agree, the commonest class has {chance:.3f}")
    assert agreement > max(0.75, 3 * chance)
