"""The Python interface: `from benexp import classify`."""

import os
from typing import Any

from benexp.cli.dispatch import run
from benexp.cli.wording import error_message
from benexp.config.groups import conf_folder
from benexp.config.quoting import quote
from benexp.core.errors import BenexpError
from benexp.records.storage import to_dict


def classify(
    tile_folder: str | os.PathLike[str], output_folder: str | os.PathLike[str] = "outputs", *overrides: str
) -> dict[str, Any]:
    """Classify one product, as `benexp tile_folder=... output_folder=... OVERRIDES` does.

    Returns the run's record, the content of `run.json`; its `files` are paths below `<output_folder>/<tile>/`.
    Raises BenexpError where the command line would print an error.

    >>> record = classify("S2A_....SAFE", "maps", "chunking.stride=30")  # doctest: +SKIP
    """
    from hydra import compose, initialize_config_dir

    paths = [f"tile_folder={os.fspath(tile_folder)}", f"output_folder={os.fspath(output_folder)}"]
    quoted = [quote(argument) for argument in [*paths, *overrides]]
    try:
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            composed = compose("config", quoted)
    except Exception as error:
        raise BenexpError(error_message(error, composing=True)) from error
    records = run(composed, quoted, show=lambda _: None)
    return to_dict(records[0]) if records else {}
