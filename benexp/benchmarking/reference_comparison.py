"""The configuration that others are compared with, and the comparison with it: of speeds and of maps."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benexp.benchmarking.agreement import Comparisons, question
from benexp.benchmarking.configuration_results import ConfigurationResults
from benexp.benchmarking.labels import flat
from benexp.core.errors import BenexpError
from benexp.measure.statistics import compare
from benexp.records.figures import Verdict
from benexp.records.sweep import ReferenceConfiguration, Speedup

OTHER_TIME = "other-time"
"""The verdict on times that drift has parted from the reference's."""


@dataclass(frozen=True)
class Flips:
    """The differences of a configuration's maps from the reference's; None where `flips_unknown` says why."""

    flips_per_million: float | None = None
    beyond_ties_per_million: float | None = None
    prob_diff_max: float | None = None
    flips_unknown: str | None = None


def choose_reference(every: Sequence[ConfigurationResults]) -> ConfigurationResults | None:
    """The first with a model that is done: at fp32 if there is one, of torch if there is one of those."""
    fit = [one for one in every if one.maps and not one.is_null]
    return min(fit, key=lambda one: (one.precision != "fp32", one.fell_back, one.name != "torch"), default=None)


def describe_reference(reference: ConfigurationResults) -> ReferenceConfiguration:
    why = f"the first at fp32{' with torch' if reference.name == 'torch' else ', as none with torch was finished'}"
    if reference.precision != "fp32":
        why = f"the first that was finished: nothing is compared with fp32, as it is {reference.precision}"
    return ReferenceConfiguration(
        configuration=reference.label.name, config_hash=reference.hash, precision=reference.precision, why=why
    )


def incomparable(one: ConfigurationResults, reference: ConfigurationResults | None) -> str | None:
    """The reason why its maps cannot be held against the reference's; None where they can."""
    if not one.maps:
        return "no run of it was finished"
    if one.is_null:
        return "it classifies nothing"
    assert reference  # it is one itself
    own, theirs = flat(question(one.first)), flat(question(reference.first))
    differing = sorted(key for key in own.keys() | theirs.keys() if own.get(key) != theirs.get(key))
    if differing:
        settings = ", ".join(f"{key}={own.get(key)}" for key in differing)
        return f"it makes another map than the reference does: {settings}"
    if {map_.product for map_ in one.maps} != {map_.product for map_ in reference.maps}:
        return "it was measured on other products than the reference"
    return None


def count_flips(one: ConfigurationResults, reference: ConfigurationResults, comparisons: Comparisons) -> Flips:
    """The pixels over all tiles whose class is not the reference's, of maps that can be compared."""
    theirs = {map_.product: map_ for map_ in reference.maps}
    flips, beyond, pixels = 0, 0, 0
    largest: list[float] = []
    try:
        for map_ in one.maps:
            first = theirs[map_.product]
            if map_.hash == first.hash:
                pixels += map_.classified_pixels()
                continue
            found = comparisons.between(first, map_, first.tolerance("fp32"))
            flips += int(found.flips.sum())
            beyond += int(found.flips.sum()) - found.ties
            pixels += found.pixels
            largest.append(found.prob_diff_max)
    except BenexpError as error:
        return Flips(flips_unknown=str(error))
    share = 1e6 / pixels if pixels else 0.0
    return Flips(flips * share, beyond * share, max(largest, default=None))


def speedup(one: ConfigurationResults, reference: ConfigurationResults | None) -> Speedup | None:
    if reference is None or not one.seconds.keys() & reference.seconds.keys():
        return None
    found = compare(one.seconds, reference.seconds)
    return Speedup(**asdict(found), verdict=found.verdict, words=str(found))


def drift_verdicts(one: ConfigurationResults, reference: ConfigurationResults | None) -> list[Verdict]:
    """On repeats that were, or whose reference's were, taken over from another sweep."""
    if reference is None:
        return []
    own, theirs = one.sweeps, reference.sweeps
    apart = sorted(repeat for repeat in own.keys() & theirs.keys() if own[repeat] != theirs[repeat])
    if not apart:
        return []
    what = f"repeat{'s' if len(apart) > 1 else ''} {', '.join(map(str, apart))}"
    sentence = f"{OTHER_TIME}: {what} not measured in the same sweep as the reference's: drift does not cancel"
    return [Verdict(OTHER_TIME, "warning", f"{sentence}; resume=false measures all anew")]
