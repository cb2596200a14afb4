"""What comes from elsewhere and means ill, given to the command line: one line, in bounds, and nothing done elsewhere.

All cases run in one process with little memory, each in a folder of its own; parts have tests of their own, too.
"""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from benexp.models.resolve import DEMO_MODEL
from tests.products.builders import random_arrays, write_folder, write_safe, zip_product
from tests.products.test_claims import claim, sparse
from tests.tasks.runs import files_below

MEMORY = 4 * 2**30
"""Bytes of addresses that the process may have: its libraries and threads reserve 2.5 GB, and use a tenth."""
PEAK = 600e6
"""Bytes that it may use; without any of these it has 200 MB."""
SECRET = "what nobody should read"

RUNNER = """
import contextlib, io, json, os, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
from benexp.app import main
told = os.dup(2)
for line in sys.stdin:
    case = json.loads(line)
    os.chdir(case["folder"])
    # The largest size so far counts from here on.
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    with open("stderr", "wb") as file:
        os.dup2(file.fileno(), 2)
        code = main(case["arguments"])
        sys.stderr.flush()
        os.dup2(told, 2)
    peak = 1024 * int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
    print(json.dumps({"code": code, "peak": peak}), file=sys.__stdout__, flush=True)
"""


class Answer(NamedTuple):
    """How the command line answered a case."""

    code: int
    stderr: str
    peak: int
    folder: Path
    """Of the case: `out` in it was the output folder."""


Case = Callable[[Path], list[str]]
"""Makes what is hostile in a folder; the arguments that give it to the command line."""

ARRAYS = random_arrays((130, 130))
NULL = ["model=demo", "backend=null", "offset=none"]
BOMB = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a0 "ha">'
    + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    + "]><x>&a11;</x>"
)


def xml(name: str, document: str | bytes) -> Case:
    """A product with a document of this content."""

    def make(folder: Path) -> list[str]:
        (folder / "secret.txt").write_text(SECRET)
        product = write_safe(folder, arrays=ARRAYS, manifest="MD5")
        (product / name).write_bytes(document if isinstance(document, bytes) else document.encode())
        return [f"tile_folder={product}", *NULL[:2]]

    return make


def zipped(change: Callable[[zipfile.ZipFile], Any], method: int = zipfile.ZIP_STORED) -> Case:
    """A product in a zip, with what `change` puts into it, too."""

    def make(folder: Path) -> list[str]:
        path = zip_product(write_folder(folder / "P", arrays=ARRAYS), compression=method)
        with zipfile.ZipFile(path, "a", method) as archive:
            change(archive)
        return [f"tile_folder={path}", *NULL]

    return make


def link_in_zip(folder: Path) -> list[str]:
    product = write_folder(folder / "P", arrays=ARRAYS)
    (product / "B02.tif").rename(folder / "elsewhere.tif")
    path = zip_product(product)
    link = zipfile.ZipInfo("P/B02.tif")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, str(folder / "elsewhere.tif"))
    return [f"tile_folder={path}", *NULL]


def encrypted(folder: Path) -> list[str]:
    """Every member is marked as encrypted, which Python heeds and GDAL does not."""
    path = zip_product(write_folder(folder / "P", arrays=ARRAYS), compression=zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    for signature, at in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        place = content.find(signature)
        while place >= 0:
            content[place + at] |= 1
            place = content.find(signature, place + 1)
    path.write_bytes(content)
    return [f"tile_folder={path}", *NULL]


def linked(what: str) -> Case:
    """A product in which a band, or the folder of some, is a link to where it is not to look."""

    def make(folder: Path) -> list[str]:
        product = write_safe(folder, arrays=ARRAYS)
        found = next(product.glob(what))
        found.rename(folder / "elsewhere")
        found.symlink_to(folder / "elsewhere")
        return [f"tile_folder={product}", *NULL[:2]]

    return make


def header(size: int, tile: int, pattern: str = "{band}.jp2") -> Case:
    """Bands whose headers claim `size` pixels a side in internal tiles of `tile`."""

    def make(folder: Path) -> list[str]:
        product = write_folder(folder / "P", pattern=pattern, arrays=ARRAYS)
        for file in product.iterdir():
            scale = 1 if file.stem in ("B02", "B03", "B04", "B08") else 2
            if file.suffix == ".jp2":
                claim(file, size // scale, tile // scale)
            elif scale == 1:
                sparse(file, size, blockysize=tile) if tile == size else sparse(
                    file, size, tiled=True, blockxsize=tile, blockysize=tile
                )
        return [f"tile_folder={product}", *NULL]

    return make


def scene_header(folder: Path) -> list[str]:
    product = write_folder(folder / "P", pattern="{band}.jp2", arrays=ARRAYS, scl=np.full((65, 65), 4, np.uint8))
    claim(product / "SCL.jp2", 2**31 - 2, 2**31 - 2)
    return [f"tile_folder={product}", *NULL, "mask.scl=[3]"]


class Payload:
    """Runs when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ran"

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def checkpoint(name: str) -> Case:
    """A model folder whose weights are a pickle of this name."""

    def make(folder: Path) -> list[str]:
        shutil.copytree(DEMO_MODEL, folder / "model")
        (folder / "model" / "model.safetensors").unlink()
        (folder / "model" / name).write_bytes(pickle.dumps(Payload(folder)))
        product = write_folder(folder / "P", arrays=ARRAYS)
        return [f"tile_folder={product}", "model=demo", "model.weights=folder", f"model.path={folder / 'model'}"]

    return make


def configured(folder: Path) -> list[str]:
    """A model folder whose configuration has Python in it, which configilm would evaluate."""
    arguments = checkpoint("model.safetensors")(folder)
    path = folder / "model" / "config.json"
    python = f"__import__('pathlib').Path({str(folder / 'ran')!r}).touch()"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"network_type": 1, "_fusion_activation": python}))
    return arguments


def external(folder: Path) -> list[str]:
    """An .onnx file that has its weights in a pipe, on which whoever opens it waits."""
    import onnx

    from benexp.models.resolve import resolve
    from tests.models.builders import model_config
    from tests.models.test_whole import SAME, constant, graph, write

    os.mkfifo(folder / "pipe")
    (folder / "model").mkdir()
    assert onnx.__version__
    spec = resolve(model_config(name="demo", architecture="test_resnet"))
    path = write(folder / "model" / "m.onnx", spec, graph("g", SAME, weights=constant("../pipe")))
    product = write_folder(folder / "P", arrays=ARRAYS)
    return [f"tile_folder={product}", "offset=none", "model=onnx", f"model.path={path}"]


def saved_grid(folder: Path) -> list[str]:
    """A grid left in the output folder that is a pickle."""
    (folder / "out" / "P").mkdir(parents=True)
    np.savez(folder / "out" / "P" / "P_grid.npz", about=np.array(Payload(folder), dtype=object))
    return [f"tile_folder={write_folder(folder / 'P', arrays=ARRAYS)}", *NULL]


def linked_results(folder: Path) -> list[str]:
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "run.json").write_text(SECRET)
    (folder / "out").mkdir()
    (folder / "out" / "P").symlink_to(folder / "elsewhere")
    return [f"tile_folder={write_folder(folder / 'P', arrays=ARRAYS)}", *NULL]


def linked_lock(folder: Path) -> list[str]:
    (folder / "elsewhere").write_text(SECRET)
    (folder / "out" / "P").mkdir(parents=True)
    (folder / "out" / "P" / ".lock").symlink_to(folder / "elsewhere")
    return [f"tile_folder={write_folder(folder / 'P', arrays=ARRAYS)}", *NULL]


def named(name: str) -> Case:
    def make(folder: Path) -> list[str]:
        return [f"tile_folder={write_folder(folder / name, arrays=ARRAYS)}", *NULL]

    return make


def no_text(folder: Path) -> list[str]:
    write_folder(folder / "P", arrays=ARRAYS).rename(folder / os.fsdecode(b"a\xffb"))
    return [f"input_dir={folder}", *NULL]


REFUSED: dict[str, tuple[Case, str]] = {
    "entities that double": (xml("MTD_MSIL2A.xml", BOMB), "MTD_MSIL2A.xml is not readable as XML"),
    "entities in the manifest": (xml("manifest.safe", BOMB), "manifest.safe is not readable as XML"),
    "an entity of another file": (
        xml("MTD_MSIL2A.xml", '<!DOCTYPE x [<!ENTITY a SYSTEM "secret.txt">]><x>&a;</x>'),
        "MTD_MSIL2A.xml is not readable as XML",
    ),
    "elements without end": (xml("MTD_MSIL2A.xml", b"<a>" * 1_300_000), "MTD_MSIL2A.xml is not readable as XML"),
    "too much XML": (xml("MTD_MSIL2A.xml", b"<a>" + b" " * 5_000_000), "that is no product metadata"),
    "XML packed to nothing": (
        zipped(lambda archive: archive.writestr("P/MTD_MSIL2A.xml", bytes(50_000_000)), zipfile.ZIP_DEFLATED),
        "that is no product metadata",
    ),
    "a member above the zip": (zipped(lambda archive: archive.writestr("../B02.tif", "x")), "names a file outside"),
    "a member of the root": (zipped(lambda archive: archive.writestr("/tmp/B02.tif", "x")), "names a file outside"),
    "a member with backslashes": (zipped(lambda archive: archive.writestr("..\\B02.tif", "x")), "names a file outside"),
    "a member twice": (zipped(lambda archive: archive.writestr("P/B02.tif", "x")), "two files of one name"),
    "a member that unpacks to much": (
        zipped(lambda archive: archive.writestr("P/B01.tif", bytes(70_000_000)), zipfile.ZIP_DEFLATED),
        "unpacks to 70000000 bytes",
    ),
    "a link in a zip": (link_in_zip, "B02.tif cannot be opened"),
    "an encrypted zip": (encrypted, "is encrypted"),
    "a link instead of a band": (linked("GRANULE/*/IMG_DATA/R10m/*B03*"), "is a link out of the product"),
    "a link instead of a folder": (linked("GRANULE/*/IMG_DATA/R20m"), "is a link out of the product"),
    "a link instead of metadata": (linked("MTD_MSIL2A.xml"), "is a link out of the product"),
    "a JPEG2000 header of exabytes": (header(2**31 - 2, 2**31 - 2), "B02.jp2"),
    "a JPEG2000 header of many tiles": (header(32 * 60, 32), "is cut into 3600 internal tiles"),
    "a GeoTIFF header of gigabytes": (header(40_960, 1024, "{band}.tif"), "its header is damaged"),
    "a GeoTIFF in one piece": (header(8300, 8300, "{band}.tif"), "can only be read in pieces"),
    "a huge scene classification": (scene_header, "SCL.jp2"),
    "a pickle instead of weights": (checkpoint("pytorch_model.bin"), "pytorch_model.bin is a pickle"),
    "another pickle": (checkpoint("model.pt"), "model.pt is a pickle"),
    "a configuration that runs": (configured, "network_type is 1"),
    "weights behind a path": (external, "has parts of its model elsewhere ('../pipe')"),
    "a pickle instead of a grid": (saved_grid, "not a probability grid"),
    "a link instead of results": (linked_results, "is a link"),
    "a link instead of a lock": (linked_lock, "Too many levels of symbolic links"),
    "a name with a line's end": (named("a\nb"), "has no usable name"),
    "a name that a terminal obeys": (named("a\x1b]0;b\x07"), "has no usable name"),
    "a name that is no text": (no_text, "has no usable name"),
}


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[list[str], Path], Answer]]:
    """The command line in a process with little memory, for one case after the other; a hang ends it."""
    with subprocess.Popen(
        ["timeout", "120", sys.executable, "-c", RUNNER, str(MEMORY)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def give(arguments: list[str], folder: Path) -> Answer:
            assert process.stdin and process.stdout
            asked = {"arguments": [*arguments, f"output_folder={folder / 'out'}"], "folder": str(folder)}
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            # What is said for the user comes before the answer.
            for line in process.stdout:
                if line.startswith('{"code"'):
                    found = json.loads(line)
                    return Answer(found["code"], (folder / "stderr").read_text(), found["peak"], folder)
            pytest.fail(f"the process ended or hung: {process.wait()}")

        yield give
        assert process.stdin
        process.stdin.close()


def state(folder: Path) -> dict[str, str]:
    """What lies in a folder, but for its `out` and what was said."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
        if path.relative_to(folder).parts[0] not in ("out", "stderr")
    }


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_in_one_line(case: str, command: Callable[..., Answer], tmp_path: Path) -> None:
    make, message = REFUSED[case]
    arguments = make(tmp_path)
    before, made_before = state(tmp_path), files_below(tmp_path / "out")
    answer = command(arguments, tmp_path)
    assert answer.code == 1
    errors = [line for line in answer.stderr.splitlines() if line.startswith("benexp: error: ")]
    assert len(errors) == 1 and message in errors[0], answer.stderr
    assert "Traceback" not in answer.stderr and "\x1b" not in answer.stderr and SECRET not in answer.stderr
    assert answer.peak < PEAK
    assert state(tmp_path) == before
    assert files_below(tmp_path / "out") == made_before


NAME = """a';$(touch ran)|`touch ran`&"<img src=x onerror=alert(1)>#?%41{}[]=,!*$HOME"""


def test_a_name_of_shell_and_html_is_only_a_name(command: Callable[..., Answer], tmp_path: Path) -> None:
    arguments = named(NAME)(tmp_path)
    before = state(tmp_path)
    answer = command(arguments, tmp_path)
    assert answer.code == 0, answer.stderr
    assert state(tmp_path) == before
    results = tmp_path / "out" / NAME
    assert [path.name for path in (tmp_path / "out").iterdir()] == [NAME]
    assert json.loads((results / "run.json").read_text())["tile"] == NAME
    assert not list(tmp_path.rglob("ran"))
    assert "<img src=x" not in (results / "viewer.html").read_text()


def test_what_lies_in_the_output_folder_leads_nowhere_else(command: Callable[..., Answer], tmp_path: Path) -> None:
    """A record that names files elsewhere as its own, and links where files are written."""
    arguments = named("P")(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).write_text(SECRET)
    results = tmp_path / "out" / "P"
    results.mkdir(parents=True)
    (results / "run.json").write_text(json.dumps({"files": {"../../one": {}, str(tmp_path / "one"): {}}}))
    for link in ("P_class.tif", "P_grid.npz", "P_grid.partial.npz", "run.partial.json", "viewer.html"):
        (results / link).symlink_to(tmp_path / "two")
    before = state(tmp_path)
    answer = command([*arguments, "resume=false"], tmp_path)
    assert answer.code == 0, answer.stderr
    assert "run.json is no record of benexp" in answer.stderr
    assert state(tmp_path) == before
    assert not [path for path in results.iterdir() if path.is_symlink()]


@pytest.mark.parametrize("left", ["{", '{"files": 5}', "\ud800"])
def test_a_record_that_is_none_costs_no_results(left: str, command: Callable[..., Answer], tmp_path: Path) -> None:
    arguments = named("P")(tmp_path)
    (tmp_path / "out" / "P").mkdir(parents=True)
    (tmp_path / "out" / "P" / "run.json").write_bytes(left.encode(errors="surrogatepass"))
    answer = command(arguments, tmp_path)
    assert answer.code == 0, answer.stderr
    assert "is no record of benexp" in answer.stderr
    assert json.loads((tmp_path / "out" / "P" / "run.json").read_text())["tile"] == "P"
