"""The Hydra entry point: quote paths, compose, check, run the task; and the same from Python."""

import contextlib
import importlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benexp.errors import BenexpError, one_line
from benexp.files import is_text
from benexp.progress import AboveBars, above_bars
from benexp.usage import conf_folder, groups

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger("benexp")

PATH_KEYS = (
    *("tile_folder", "input_dir", "output_folder", "model.path"),
    *("evaluate.patches", "evaluate.metadata", "evaluate.reference", "evaluate.map"),
)

SWEEP = ("-m", "--multirun")
OPTUNA = "hydra/sweeper=optuna"
FOR_OPTUNA = ("hydra.sweeper.direction=maximize", "hydra.sweeper.n_jobs=1", "hydra.sweeper.max_failure_rate=1")
"""What Optuna must know of benchmarks, which return patches per second, one at a time, and may fail one by one."""
PLUGINS = (
    "not found; beside Hydra's own there are hydra/launcher=joblib, submitit_local, submitit_slurm and "
    "hydra/sweeper=optuna with pip install 'benexp[sweeps]'"
)
OPEN_KEYS = ("backend.", "layers.extra")
"""Below these, users' own classes and functions have keys of their own, which Hydra takes only with a ++."""


def quote(argument: str) -> str:
    """An override in Hydra's grammar, which takes characters of paths for its own, and the backend `null` for nothing.

    Raises BenexpError where it is no text.

    >>> quote("tile_folder=/data/a, b")
    "tile_folder='/data/a, b'"
    """
    if not is_text(argument):
        # Records and pages show the command, and could not be written when all is done.
        raise BenexpError(f"{argument}: is not in UTF-8: rename what it names")
    key, equals, value = argument.partition("=")
    if key.startswith(OPEN_KEYS):
        return f"++{argument}"
    if key in ("backend", "backends"):
        return re.sub(r"(?<=[=,\[])null(?=[],]|$)", "'null'", argument)
    if not equals or key.lstrip("+") not in PATH_KEYS or value in ("null", ""):
        return argument
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" and not Path(value).exists():
        return argument  # quoted for Hydra already
    if key == "output_folder":
        value = os.path.expanduser(value)  # Hydra makes folders in it by its name
    # Hydra unescapes a backslash only before a quote, at the end of the text, and before an interpolation.
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
    return f"{key}='{escaped.replace('${', chr(92) + '${')}'"


def main(arguments: Sequence[str]) -> int:
    """Run the command line; the exit code."""
    set_up_logging()

    import hydra

    from benexp.sweep import FULL_ERROR, Job, SweepRefusedError, begun
    from benexp.tracking.live import close_sweeps

    debug = FULL_ERROR in os.environ
    job = Job(debug)
    begun.clear()
    code = 0
    try:
        given = [*(FOR_OPTUNA if OPTUNA in arguments else ()), *map(quote, arguments)]
        # Flags first: argparse takes no `key=value -m key=value`.
        sys.argv[1:] = sorted(given, key=lambda argument: argument not in SWEEP)
        with _exceptions_from_hydra():
            hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")(job)()
    except KeyboardInterrupt:
        log.error("interrupted")
        job.interrupt()
        code = 130
    except SweepRefusedError as refused:
        log.error("%s", refused)
        code = 1
    except Exception as error:
        if debug:
            raise
        log.error("%s", explain(error, composing=True))
        code = 1
    well = job.end(interrupted=code == 130)
    code = code or (0 if well else 1)
    close_sweeps("interrupted" if code == 130 else "failed" if code else "done")
    return code


def set_up_logging() -> None:
    """Messages of benexp go to stderr, one line each."""
    handler = AboveBars(sys.stderr)
    handler.setFormatter(_Printable("benexp: %(levelname)s%(message)s"))
    logging.basicConfig(handlers=[handler])
    log.setLevel(logging.INFO)
    for level, words in ((logging.INFO, ""), (logging.WARNING, "warning: "), (logging.ERROR, "error: ")):
        logging.addLevelName(level, words)


class _Printable(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return _printable(super().formatMessage(record))


def _printable(text: str) -> str:
    """Shows what a terminal would obey, in names of files above all, as Python writes it."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def say(text: str) -> None:
    """Print for the user, and go on where nobody listens any more (`benexp ... | head -1`)."""
    try:
        with above_bars():
            print("\n".join(map(_printable, text.split("\n"))), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _exceptions_from_hydra() -> Iterator[None]:
    """Hydra passes exceptions on, so that they are worded here, instead of printing them and exiting."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        del os.environ["HYDRA_FULL_ERROR"]
        if before is not None:
            os.environ["HYDRA_FULL_ERROR"] = before


def classify(
    tile_folder: str | os.PathLike[str], output_folder: str | os.PathLike[str] = "outputs", *overrides: str
) -> dict[str, Any]:
    """Classify one product: what `benexp tile_folder=... output_folder=... OVERRIDES` does.

    Returns the run's record, the content of `run.json`; its `files` are paths beneath `<output_folder>/<tile>/`.
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
        raise BenexpError(explain(error, composing=True)) from error
    records = run(composed, quoted, say=lambda _: None)
    return records[0] if records else {}


def run(
    composed: "DictConfig", overrides: Sequence[str], say: Callable[[str], object], in_sweep: bool = False
) -> list[dict[str, Any]]:
    """Check a composed configuration and run its task; the records of what was done.

    `overrides` are what the user asked for, in Hydra's grammar: records show them. `say` is told what was done.
    """
    with _failure_reported(composed, overrides, in_sweep):
        return _run(composed, overrides, say, in_sweep)


def _failure_reported(
    composed: "DictConfig", overrides: Sequence[str], in_sweep: bool
) -> "contextlib.AbstractContextManager[None]":
    if not in_sweep or composed.task.name != "benchmark" or composed.dry_run:
        return contextlib.nullcontext()
    from benexp.tasks.failed_job import failure_reported

    return failure_reported(composed, overrides)


def _run(
    composed: "DictConfig", overrides: Sequence[str], say: Callable[[str], object], in_sweep: bool
) -> list[dict[str, Any]]:
    from benexp.config import check, config_hash
    from benexp.tracking.live import tracked

    config = check(composed)
    config.output_folder = str(Path(config.output_folder).expanduser())
    if in_sweep:
        # Each job of a sweep has a folder of its own, or they would overwrite one another.
        config.output_folder = str(Path(config.output_folder) / "jobs" / config_hash(config)[:12])
        if config.task.name == "benchmark":
            config.output_folder = str(Path(config.output_folder) / str(config.benchmark.repeat))
    if config.task.name not in groups()["task"]:
        raise BenexpError(f"task.name={config.task.name}: takes {', '.join(groups()['task'])}")
    sweep = Path(composed.output_folder) if in_sweep else None
    # Reported here already, and not only where a wrong configuration is, for MLflow to be told of it.
    with tracked(config, overrides, sweep), _failure_reported(composed, overrides, in_sweep):
        records: list[dict[str, Any]] = importlib.import_module(f"benexp.tasks.{config.task.name}").run(
            config, overrides, say
        )
    return records


def explain(error: BaseException, *, composing: bool = False) -> str:
    """One line for the user about an exception that is not ours; `composing` where Hydra was at the command line."""
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
        if choice[1].startswith("hydra/"):
            return f"{choice[1]}={choice[2]}: {PLUGINS}"
        taken = ", ".join(groups().get(choice[1], [])) or "no such group"
        return f"{choice[1]}={choice[2]}: takes {taken}"
    if "Config group override must be a string" in text:
        return "a group is null: name one of its choices (see benexp --help)"
    if "No trials are completed" in text:
        return f"{OPTUNA}: no trial came to its objective, the patches per second of task=benchmark"
    if "`Study.stop` is supposed" in text:
        return f"{OPTUNA}: the last trial of the grid failed, on which its plugin stumbles: no best one is named"
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return f"{text}: {' '.join(str(error.__cause__).split())}" if error.__cause__ else text
    if isinstance(error, OSError):
        return f"{error.filename or 'the system'}: {error.strerror or text}"
    if composing:
        # Hydra meets some mistakes with exceptions of its code, such as a list where a group's choice should stand.
        return f"Hydra can make no configuration of these keys and values ({one_line(error)}): see benexp --help"
    return f"unexpected {type(error).__name__}: {text} (HYDRA_FULL_ERROR=1 shows where)"


def _unknown_key(key: str) -> str:
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
