"""One-line messages for the exceptions of Hydra, omegaconf and the operating system."""

import re

from benexp.config.groups import conf_folder, groups
from benexp.config.schema import RENAMED
from benexp.core.disk_limits import reason
from benexp.core.errors import BenexpError, one_line

FULL_ERROR = "HYDRA_FULL_ERROR"
"""Set by users who want tracebacks, and by benexp while Hydra runs, to receive its exceptions."""
OPTUNA = "hydra/sweeper=optuna"
PLUGINS = (
    "not found; beside Hydra's own there are hydra/launcher=joblib, submitit_local, submitit_slurm and "
    "hydra/sweeper=optuna with pip install 'benexp[sweeps]'"
)


def error_message(error: BaseException, *, composing: bool = False) -> str:
    """One line for the user about any exception; `composing` is true while Hydra composes the configuration."""
    from hydra.errors import HydraException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, BenexpError):
        return str(error)
    if isinstance(error, OverrideParseException):
        return f"{error.override}: is not key=value as Hydra reads it; quote special characters: \"key='a, b'\""
    text = " ".join(str(error).split())
    if unknown := re.search(r"Could not override '([^']+)'", text):
        return _unknown_key(unknown[1])
    if choice := re.search(r"Could not find '([^']+)/([^']*)'", text):
        if present := RENAMED.get(f"{choice[1]}={choice[2]}"):
            return f"{choice[1]}={choice[2]} is now {present}"
        if choice[1].startswith("hydra/"):
            return f"{choice[1]}={choice[2]}: {PLUGINS}"
        taken = ", ".join(groups().get(choice[1], [])) or "no such group"
        return f"{choice[1]}={choice[2]}: takes {taken}"
    if "Config group override must be a string" in text:
        return "a group is null: name one of its choices (see benexp --help)"
    if "No trials are completed" in text:
        return f"{OPTUNA}: no trial came to its objective, the patches per second of task=benchmark"
    if "`Study.stop` is supposed" in text:
        return f"{OPTUNA}: the last trial of the grid failed, which its plugin cannot handle: no best trial is named"
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return f"{text}: {' '.join(str(error.__cause__).split())}" if error.__cause__ else text
    if isinstance(error, OSError):
        return f"{error.filename or 'the system'}: {reason(error)}"
    if composing:
        # Hydra raises exceptions of its own code for some mistakes, such as a list in place of a group's choice.
        return f"Hydra can make no configuration of these keys and values ({one_line(error)}): see benexp --help"
    return f"unexpected {type(error).__name__}: {text} ({FULL_ERROR}=1 shows where)"


def _unknown_key(key: str) -> str:
    """The message about a key that is not in the schema, with its present name or the closest match."""
    if key in RENAMED:
        return f"{key} is now {RENAMED[key]}"
    import difflib

    from hydra import compose, initialize_config_dir
    from omegaconf import DictConfig, OmegaConf

    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        default = compose("config")
    parent, _, name = key.rpartition(".")
    while parent and not isinstance(OmegaConf.select(default, parent), DictConfig):
        parent, _, name = parent.rpartition(".")
    siblings = list(map(str, OmegaConf.select(default, parent) if parent else default))
    close = difflib.get_close_matches(name, siblings, 1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"unknown key {key}{hint}: {parent or 'the configuration'} takes {', '.join(siblings)}"
