"""`python -m benexp.demo.train OUT`: trains the small model that travels in the package, on made-up landscapes.

Patches are cut and normalised as the published models want them. The target of a class is its share of the patch,
weighted towards the centre: the most probable class of the blended map is then the one that prevails around a pixel.
"""

import argparse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benexp.core.classes import CLASSES, NODATA
from benexp.demo.landscape import make_landscape
from benexp.demo.scenery import BANDS, OFFSET, strips
from benexp.mapping.blending import window_weights
from benexp.models.band_statistics import band_statistics
from benexp.models.checkpoint import new_network, save_checkpoint
from benexp.models.published import configuration

ARCHITECTURE = "test_resnet"
"""The smallest residual network that timm knows: 0.4 million weights."""
PATCH = 120
PEAK_RATE = 4e-3
FIRST_SEED = 1000
"""Seeds below it are never trained on, and so are fit to try the model on."""

Scene = tuple[npt.NDArray[np.float16], npt.NDArray[np.uint8]]


def scene(size: int, seed: int) -> Scene:
    """Normalised pixels [bands, size, size], 0 where there are none, and true classes [size, size]."""
    means, stds = (np.asarray(values, np.float32)[:, None, None] for values in band_statistics(BANDS))
    # Half the memory, and far finer than the noise.
    pixels = np.empty((len(BANDS), size, size), np.float16)
    truth = np.empty((size, size), np.uint8)
    for strip in strips(make_landscape(size, seed)):
        rows = slice(strip.first, strip.first + len(strip.truth))
        truth[rows] = strip.truth
        for band, mean, std in zip(range(len(BANDS)), means, stds, strict=True):
            stored = strip.bands[BANDS[band]]
            dn = np.maximum(stored, OFFSET + 1) - np.float32(OFFSET)
            normalised = np.where(stored > 0, (dn - mean) / std, 0)
            factor = size // stored.shape[1]
            pixels[band, rows] = normalised.repeat(factor, 0).repeat(factor, 1)
    return pixels, truth


def batches(scenes: list[Scene], batch_size: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Normalised patches [n, bands, 120, 120] and shares [n, classes], without end, flipped and turned at random."""
    rng = np.random.default_rng(seed)
    # Sharper than the blend's own window, which spreads what the model says about the centre.
    weights = np.outer(*[window_weights(PATCH, "sin2") ** 2] * 2)
    while True:
        patches: list[npt.NDArray[np.float16]] = []
        shares: list[npt.NDArray[np.float64]] = []
        while len(patches) < batch_size:
            pixels, truth = scenes[rng.integers(len(scenes))]
            row, col = rng.integers(0, truth.shape[0] - PATCH + 1, 2)
            window = np.s_[row : row + PATCH, col : col + PATCH]
            labels = truth[window]
            seen = labels != NODATA
            if seen.mean() < 0.5:
                continue
            share = np.bincount(labels[seen], weights[seen], minlength=len(CLASSES))
            patch = np.rot90(pixels[:, *window], rng.integers(4), (1, 2))
            patches.append(patch[:, :, ::-1] if rng.integers(2) else patch)
            shares.append(share / share.sum())
        yield (
            torch.from_numpy(np.stack(patches)).float(),
            torch.from_numpy(np.stack(shares).astype(np.float32)),
        )


def train(
    scenes: list[Scene], steps: int, batch_size: int = 64, architecture: str = ARCHITECTURE, rate: float = PEAK_RATE
) -> torch.nn.Module:
    """A network trained for so many steps; the learning rate rises quickly to `rate` and falls slowly."""
    torch.manual_seed(0)
    network = new_network(configuration(architecture, len(BANDS))).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    source = batches(scenes, batch_size, seed=0)
    losses = []
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, source)
        for step in range(1, steps + 1):
            patches, shares = coming.result()
            coming = pool.submit(next, source)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(network(patches), shares)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
            if step % 100 == 0:
                print(f"step {step} of {steps}: loss {np.mean(losses[-100:]):.4f}", flush=True)
    return network.eval()


def main() -> None:
    """Train and write the checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m benexp.demo.train", description=__doc__)
    parser.add_argument("out", type=Path, help="folder that the checkpoint is written to")
    parser.add_argument("--scenes", type=int, default=30)
    parser.add_argument("--size", type=int, default=1200)
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--architecture", default=ARCHITECTURE, help="any that timm knows")
    parser.add_argument("--rate", type=float, default=PEAK_RATE, help="the highest learning rate")
    args = parser.parse_args()
    scenes = [scene(args.size, FIRST_SEED + i) for i in range(args.scenes)]
    network = train(scenes, args.steps, args.batch_size, args.architecture, args.rate)
    save_checkpoint(args.out, network, args.architecture, len(BANDS))


if __name__ == "__main__":
    main()
