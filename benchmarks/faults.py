"""What may be wrong with a product: each is done to one that is sound, in place, and none must end as a wrong map."""

import random
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MANIFEST = "manifest.safe"
METADATA = "MTD_MSIL2A.xml"


@dataclass(frozen=True)
class Fault:
    """`noticeable` is false where nothing tells the product from a sound one."""

    name: str
    inflict: Callable[[Path, random.Random], None]
    noticeable: bool = True


def _some_band(safe: Path, chance: random.Random) -> Path:
    return chance.choice(sorted(path for path in safe.rglob("*_B*.jp2")))


def _rewrite(path: Path, content: bytes) -> None:
    # As a new file: the old one is a link to that of the sound product.
    path.unlink()
    path.write_bytes(content)


def _truncate(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    _rewrite(path, content[: chance.randrange(1, len(content))])


def _flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    # Beyond the headers, which a decoder would stumble over.
    for at in chance.sample(range(len(content) // 4, len(content) - 2), 8):
        content[at] ^= 1 << chance.randrange(8)
    _rewrite(path, bytes(content))


def _truncate_band(safe: Path, chance: random.Random) -> None:
    _truncate(_some_band(safe, chance), chance)


def _truncate_unlisted_band(safe: Path, chance: random.Random) -> None:
    (safe / MANIFEST).unlink()
    _truncate_band(safe, chance)


def _flip_band(safe: Path, chance: random.Random) -> None:
    _flip(_some_band(safe, chance), chance)


def _flip_unlisted_band(safe: Path, chance: random.Random) -> None:
    (safe / MANIFEST).unlink()
    _flip_band(safe, chance)


def _empty_band(safe: Path, chance: random.Random) -> None:
    _rewrite(_some_band(safe, chance), b"")


def _remove_band(safe: Path, chance: random.Random) -> None:
    _some_band(safe, chance).unlink()


def _swap_bands(safe: Path, chance: random.Random) -> None:
    one, other = chance.sample(sorted(safe.rglob("*_B*_10m.jp2")), 2)
    contents = one.read_bytes(), other.read_bytes()
    _rewrite(one, contents[1])
    _rewrite(other, contents[0])


def _change_offset(safe: Path, chance: random.Random) -> None:
    text = (safe / METADATA).read_text()
    _rewrite(safe / METADATA, text.replace(">-1000<", f">-{chance.randrange(900)}<").encode())


def _truncate_metadata(safe: Path, chance: random.Random) -> None:
    _truncate(safe / METADATA, chance)


def _remove_metadata(safe: Path, chance: random.Random) -> None:
    (safe / METADATA).unlink()


def _truncate_manifest(safe: Path, chance: random.Random) -> None:
    _truncate(safe / MANIFEST, chance)


def _truncate_zip(safe: Path, chance: random.Random) -> None:
    archive = Path(shutil.make_archive(str(safe.with_suffix("")), "zip", safe.parent, safe.name))
    shutil.rmtree(safe)
    _truncate(archive, chance)


def _flip_stored_zip(safe: Path, chance: random.Random) -> None:
    """In a band that is not packed, so that nothing but its checksums tells."""
    band = _some_band(safe, chance)
    archive = safe.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as members:
        for path in sorted(path for path in safe.rglob("*") if path.is_file()):
            members.write(path, path.relative_to(safe.parent))
        start = members.getinfo(str(band.relative_to(safe.parent))).header_offset
    size = band.stat().st_size
    shutil.rmtree(safe)
    content = bytearray(archive.read_bytes())
    # Beyond the member's name and the headers of its image.
    for at in chance.sample(range(start + size // 2, start + size), 8):
        content[at] ^= 1 << chance.randrange(8)
    archive.write_bytes(content)


FAULTS = (
    Fault("a band is cut off", _truncate_band),
    Fault("a band is cut off, no manifest", _truncate_unlisted_band),
    Fault("bits of a band are flipped", _flip_band),
    Fault("a band is empty", _empty_band),
    Fault("a band is missing", _remove_band),
    Fault("two bands are swapped", _swap_bands),
    Fault("the offsets are others", _change_offset),
    Fault("the metadata are cut off", _truncate_metadata),
    Fault("the metadata are missing", _remove_metadata),
    Fault("the manifest is cut off", _truncate_manifest),
    Fault("a zip is cut off", _truncate_zip),
    Fault("bits of a stored zip are flipped", _flip_stored_zip),
    Fault("bits of a band are flipped, no manifest", _flip_unlisted_band, noticeable=False),
)
