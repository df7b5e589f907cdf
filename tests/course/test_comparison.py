"""The comparison viewer: what it shows, and a test that is blind."""

import io

import numpy as np
import pytest
from PIL import Image

from ganlib.course.widgets import comparison
from ganlib.course.widgets.comparison import ComparisonViewer, Version, comparison_view, measured_version
from ganlib.evaluation import metrics


@pytest.fixture
def versions(photo):
    noise = np.random.default_rng(0).integers(-20, 21, photo.shape)
    noisy = (photo.astype(int) + noise).clip(0, 255).astype(np.uint8)
    return [Version("original", photo), measured_version("noisy", photo, noisy, 1234, "a note"),
            Version("dark", photo // 2, "half")]  # fmt: skip


def pixels_of(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def test_facts_are_bytes_psnr_and_lpips(versions, photo):
    facts = versions[1].facts
    assert facts.startswith("a note, 1,234 bytes, ")
    assert f"PSNR {metrics.psnr(photo, versions[1].pixels):.2f} dB" in facts
    assert f"LPIPS {metrics.lpips(photo, versions[1].pixels):.3f}" in facts
    assert "LPIPS" not in measured_version("small", photo[:20, :20], photo[1:21, :20]).facts


def test_pictures_are_shown_pixel_for_pixel(versions):
    viewer = ComparisonViewer(versions)
    assert viewer.names == ["original", "noisy", "dark"] and viewer.size == [512, 512]
    for data, version in zip(viewer.pngs, versions):
        assert (pixels_of(data) == version.pixels).all()


def test_of_a_large_picture_the_same_busy_square_of_each_version_is_shown(photo):
    large = np.zeros((1000, 1200, 3), np.uint8)
    large[400:912, 500:1012] = photo
    viewer = ComparisonViewer([Version("a", large), Version("b", 255 - large)])
    a, b = map(pixels_of, viewer.pngs)
    assert a.shape == (comparison.CROP, comparison.CROP, 3) and (a == 255 - b).all() and a.std() > 30


def test_versions_of_unequal_size_and_a_single_one_are_refused(versions, photo):
    with pytest.raises(ValueError, match="original 512x512, small 64x64"):
        ComparisonViewer([versions[0], Version("small", photo[:64, :64])])
    with pytest.raises(ValueError, match="two versions"):
        ComparisonViewer(versions[:1])


def test_the_blind_test_hides_shuffles_reveals_and_counts(versions):
    viewer, lefts = ComparisonViewer(versions, 1, 2), set()
    for _ in range(40):
        viewer._hear(viewer, {"kind": "blind"}, [])
        assert viewer.hidden and {viewer.left, viewer.right} == {1, 2}
        lefts.add(viewer.left)
        viewer._hear(viewer, {"kind": "vote", "side": "left" if viewer.left == 1 else "right"}, [])
        assert not viewer.hidden
    assert lefts == {1, 2}, "in forty tests the order changes"
    assert viewer.tally == {"noisy": 40}
    viewer.vote("left")  # outside of a test
    assert viewer.tally == {"noisy": 40}
    viewer.blind()
    viewer.vote("same")
    viewer.blind()
    viewer.blind()  # ended without a vote
    assert viewer.tally == {"noisy": 40, "no difference": 1} and not viewer.hidden
    viewer._hear(viewer, {"kind": "vote", "side": "../x"}, [])
    viewer._hear(viewer, {}, [])


def test_new_versions_end_a_test_and_keep_the_tally(versions):
    viewer = ComparisonViewer(versions, 0, 2)
    viewer.blind()
    viewer.vote("left")
    viewer.blind()
    viewer.compare(versions[:2])
    assert not viewer.hidden and sum(viewer.tally.values()) == 1 and max(viewer.left, viewer.right) <= 1


def test_the_static_picture_holds_both_with_their_facts(versions):
    figure = comparison_view(versions, 0, 1)
    texts = [text.get_text() for text in figure.texts]
    assert {"original", "noisy", versions[1].facts} <= set(texts)
    assert all(text.get_fontsize() >= 9 for text in figure.texts)
    crops = [ax.get_images()[0].get_array() for ax in figure.axes]
    assert crops[0].shape == (comparison.FALLBACK, comparison.FALLBACK, 3) and (crops[0] != crops[1]).any()
