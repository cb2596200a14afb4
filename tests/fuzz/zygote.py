"""A process that has benexp imported, and forks itself for every command line that it is told: `python -m` runs it.

Every run is in a process of its own, as a user's is, but begins in milliseconds. Nothing here starts a thread, which a
fork would not have.
"""

import contextlib
import importlib
import io
import json
import logging
import os
import resource
import signal
import sys
import time
from typing import Any

import psutil
from PIL import Image

from benexp.cli.app import main as benexp
from tests.fuzz.world import QUICK

IMPORTED = (
    *("benexp.tasks.classify", "benexp.tracking.recorder_client", "benexp.report.viewer", "benexp.demo.product"),
    *("tests.fuzz.answers", "rasterio.warp", "rasterio.shutil", "rasterio.io", "PIL.ImageOps", "PIL.JpegPresets"),
)


def main() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    Image.init()
    save: Any = Image.Image.save
    # The smallest preview.png takes half of the time of a run.
    Image.Image.save = lambda *given, **options: save(*given, **options | {"optimize": False})  # type: ignore[method-assign]
    # Reads what Hydra reads for every command, and stops before any work.
    with contextlib.redirect_stdout(sys.stderr), contextlib.redirect_stderr(io.StringIO()):
        benexp([*QUICK, "chunking.stride=0"])
    logging.getLogger().handlers.clear()
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


def run(asked: dict[str, Any]) -> dict[str, Any]:
    """Run one command line: how it ended, and the most memory it had."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        _be_benexp(asked)
    deadline = time.monotonic() + asked["seconds"]
    hung = False
    while True:
        ended, status, used = os.wait4(child, os.WNOHANG)
        if ended:
            break
        if not hung and time.monotonic() > deadline:
            hung = True
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.005)
    # Python's own helpers end a moment later than what they help.
    while (left := _members(child)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in left:
        process.kill()
    return {
        "code": os.waitstatus_to_exitcode(status),
        "hung": hung,
        "peak_bytes": used.ru_maxrss * 1024,
        "left": len(left),
    }


def _members(group: int) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _group(process.pid) == group]


def _group(process: int) -> int | None:
    try:
        return os.getpgid(process)
    except ProcessLookupError:
        return None


def _be_benexp(asked: dict[str, Any]) -> None:
    code = 70
    try:
        os.setpgid(0, 0)
        os.chdir(asked["cwd"])
        os.environ.update(asked["environment"])
        for name, number in (("stdout", 1), ("stderr", 2)):
            descriptor = os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, number)
        resource.setrlimit(resource.RLIMIT_AS, (asked["bytes"], asked["bytes"]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        code = benexp([os.fsdecode(argument.encode("latin-1")) for argument in asked["arguments"]])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 71
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
