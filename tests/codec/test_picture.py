"""A Picture that is made by hand holds what can be coded, or is refused when it is made."""

import numpy as np
import pytest

from ganlib.codec import mapped_arrays
from ganlib.codec.image_io import ImageError, Picture


def test_pixels_of_another_kind_are_refused(photo):
    for wrong in (photo / 255, photo.astype(np.uint16)):
        with pytest.raises(ImageError, match=f"array of {wrong.dtype}: give uint8"):
            Picture(wrong)
    for shape in ((4, 4, 4), (4, 4, 1), (4,), (0, 4, 3)):
        with pytest.raises(ImageError, match="array of shape .*: give HxWx3"):
            Picture(np.zeros(shape, np.uint8))
    with pytest.raises(TypeError, match="pixels must be a numpy array, not list"):
        Picture([[1, 2]])


def test_metadata_of_another_kind_are_refused(photo):
    for name in ("icc", "exif"):
        with pytest.raises(TypeError, match=f"{name} must be bytes, not str"):
            Picture(photo, **{name: "x"})
        with pytest.raises(ImageError, match=f"{name} of 16777216 bytes: a .gic file holds 16777215"):
            Picture(photo, **{name: bytes(2**24)})
    for wrong in (300, "ab", (1, 2, 3), (None, 1)):
        with pytest.raises(TypeError, match="dpi=.* must be two numbers"):
            Picture(photo, dpi=wrong)


@pytest.mark.parametrize("large", [False, True])
def test_turned_pixels_are_coded_as_they_are_seen(codec, photo, monkeypatch, large):
    monkeypatch.setattr(mapped_arrays, "LARGEST_IN_MEMORY", 1000 if large else 2**25)
    turned = photo[:40, :50][::-1, ::-1]
    assert codec.compress(Picture(turned)) == codec.compress(turned.copy())
