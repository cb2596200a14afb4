"""The command to do a run again: what one would type, and the same run."""

import shlex

import pytest

from benexp.config.command import command
from benexp.config.quoting import quote


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("tile_folder=/data/S2.SAFE", "tile_folder=/data/S2.SAFE"),
        ("tile_folder=/data/x y, z", "tile_folder='/data/x y, z'"),
        ("tile_folder=/data/Zürich", "tile_folder='/data/Zürich'"),
        ("input_dir=it's", 'input_dir="it\'s"'),
        ("output_folder=it's $5", "output_folder='it'\"'\"'s $5'"),
        ("output_folder=a ${b}", "output_folder='a ${b}'"),
        ("output_folder=a\\", """output_folder=''"'"'a\\\\'"'"''"""),
        ("output_folder='a'", "output_folder=a"),
        ("mask.scl=[3,8]", "mask.scl='[3,8]'"),
        ("backend=null", "backend=null"),
        ("backends=[torch,null:fp32]", "backends='[torch,null:fp32]'"),
        ("backend.threads=2", "backend.threads=2"),
        ("layers.extra.a b.function=x", "'layers.extra.a b.function'=x"),
        ("+x=", "+x="),
        ("~region.pixels", "'~region.pixels'"),
    ],
)
def test_a_command_is_read_and_does_the_same(typed: str, shown: str) -> None:
    made = command([quote(typed)])
    assert made == f"benexp {shown}"
    (again,) = shlex.split(made)[1:]
    assert quote(again) == quote(typed)


def test_flags_come_first() -> None:
    assert command(["a=1"], "-m") == "benexp -m a=1"
