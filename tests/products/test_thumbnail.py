import numpy as np

from benexp.products.thumbnail import stretch


def test_bands_are_stretched_together_over_valid_pixels() -> None:
    picture = np.stack([np.full((1, 101), 500), np.arange(500, 601)[None], np.full((1, 101), 600)]).astype(np.uint16)
    picture[0, 0, 100] = 0
    bright, valid = stretch(picture)
    assert valid.tolist() == [[True] * 100 + [False]]
    assert (bright[0, 0, :100] == 0).all()
    assert (bright[2, 0, :100] == 255).all()
    assert abs(int(bright[1, 0, 50]) - 127) <= 1
    assert (bright[:, 0, 100] == 0).all()


def test_bands_can_be_stretched_apart() -> None:
    dim, bright = np.arange(1, 102)[None], np.arange(2000, 4020, 20)[None]
    picture = np.stack([bright, dim, dim]).astype(np.uint16)
    together, apart = stretch(picture)[0], stretch(picture, apart=True)[0]
    assert together[1].max() < 10 and together[0].min() > 100
    assert np.array_equal(apart[0], apart[1])


def test_pictures_without_contrast_or_pixels_do_not_fail() -> None:
    flat = np.full((3, 2, 2), 700, np.uint16)
    assert stretch(flat)[1].all()
    bright, valid = stretch(flat * 0)
    assert not bright.any() and not valid.any()
