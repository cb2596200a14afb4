"""A rectangle of pixels on a tile's 10 m grid."""

from typing import NamedTuple


class Window(NamedTuple):
    """`height` x `width` pixels whose upper left one is (`row`, `col`)."""

    row: int
    col: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Indexes this window out of an array of the whole grid: `array[..., *window.slices]`."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)
