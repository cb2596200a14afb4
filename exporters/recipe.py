"""The recipe of an artefact, beside its model and its kind."""

from dataclasses import dataclass

from benexp.core.tensorrt import WORKSPACE_GB
from exporters.parity import TOLERANCES
from exporters.ranges import RangePatches


@dataclass(frozen=True)
class Recipe:
    """The settings of an export. Those that a kind of artefact has no use for are ignored."""

    precision: str = "fp32"
    batch: int | None = None
    """Patches at once; None: any."""
    tolerance: float | None = None
    """The largest difference of a probability from the model's at fp32; None: the usual one for the precision."""
    ranges: RangePatches | None = None
    """Real patches: what int8's ranges are measured on, and one more kind that every artefact is checked on."""
    workspace_gb: float = WORKSPACE_GB
    """GPU memory (GiB) that TensorRT may take for scratch while it builds and runs."""

    @property
    def allowed(self) -> float:
        """The tolerance that holds."""
        return TOLERANCES[self.precision] if self.tolerance is None else self.tolerance
