"""From fp32 to int8: the ranges of activations are measured on patches, weights and activations take 8 bits."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benexp.errors import BenexpError
from exporters.parity import Patches

if TYPE_CHECKING:
    import openvino


def quantize_openvino(model: "openvino.Model", patches: Patches) -> "openvino.Model":
    """`model` at int8, calibrated on `patches` [n, bands, p, p] in model DN. Quiet, and the same every time."""
    # Without it nncf reports its use to its makers, unasked.
    os.environ.setdefault("NNCF_CI", "1")
    try:
        import nncf
    except ImportError as error:
        raise BenexpError(f"int8 on OpenVINO needs {error.name}: pip install 'benexp[openvino]'") from error
    with _quiet():
        quantized: openvino.Model = nncf.quantize(
            model,
            # One by one: nncf aggregates over what it is given at once.
            nncf.Dataset([patches[i : i + 1] for i in range(len(patches))]),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(patches),
        )
    return quantized


@contextmanager
def _quiet() -> Iterator[None]:
    """Without nncf's log, and its progress bars, which rich draws on its global console."""
    import nncf
    import rich

    console, level = rich.get_console(), nncf.nncf_logger.level
    before, console.quiet = console.quiet, True
    nncf.set_log_level(logging.ERROR)
    try:
        yield
    finally:
        console.quiet = before
        nncf.set_log_level(level)
