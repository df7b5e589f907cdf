import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
import skimage.data
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from ganlib.evaluation import baselines, plots
from ganlib.evaluation.published import PUBLISHED
from ganlib.evaluation.published import published as published_curves

RATES = np.array([0.1, 0.3, 0.6, 1.4])


def curve(codec, foot):
    return pd.DataFrame({"codec": codec, "bpp": RATES, "psnr": foot + 5 * np.log2(RATES / 0.1)})


@pytest.fixture(scope="module")
def measured():
    feet = {"JPEG": 22, "ganlib light": 26, "WebP": 25, "JPEG 2000": 23, "AVIF": 25.5, "JPEG XL": 24.5, "HEIC": 25.2}
    feet |= {"ganlib light, realism 1": 24}
    return pd.concat([curve(codec, foot) for codec, foot in feet.items()], ignore_index=True)


@pytest.fixture(scope="module")
def published():
    return published_curves("kodak", PUBLISHED)


@pytest.fixture(scope="module")
def log():
    step = np.arange(20, 2020, 20)
    rng = np.random.default_rng(0)
    values = {name: at + rng.normal(0, 0.05, len(step)) for name, at in (("loss", 1), ("bpp", 0.4), ("psnr", 29))}
    return pd.DataFrame({"step": step, **values})


@pytest.fixture(scope="module")
def pictures():
    original = skimage.data.coffee()[:203, :301]
    decoded = [baselines.decode(baselines.encode("JPEG", original, quality)) for quality in (20, 60)]
    return original, decoded


def pixels(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def lines(figure):
    return {line.get_label(): line for line in figure.axes[0].get_lines()}


def texts(figure):
    return [text.get_text() for text in figure.texts]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_line_and_a_label_for_each_codec(measured, published):
    figure = plots.rate_distortion(measured, published, title="Kodak")
    assert len(lines(figure)) == 8 + 9
    assert sorted(filter(None, legend(figure))) == sorted(lines(figure))
    assert {label for label in lines(figure) if label.endswith("(published)")} == set(PUBLISHED.values())
    assert figure.axes[0].get_title(loc="left") == "Kodak"
    assert figure.axes[0].get_xlim() == (0, 1)


def test_names_with_dollars_are_no_formulas(measured, tmp_path):
    named = measured.replace({"codec": {"JPEG": "a$x_{$b"}})
    figure = plots.rate_distortion(named, title="photos of $_{$")
    plots.save(figure, tmp_path / "chart.png")
    assert "a$x_{$b" in legend(figure) and (tmp_path / "chart.png").is_file()


def test_ours_strongest_and_published_dashed(measured, published):
    drawn = lines(plots.rate_distortion(measured, published))
    ours, baseline, theirs = drawn["ganlib light"], drawn["WebP"], drawn["HiFiC (published)"]
    assert ours.get_linewidth() > baseline.get_linewidth() > theirs.get_linewidth()
    assert ours.get_zorder() > baseline.get_zorder() > theirs.get_zorder()
    assert theirs.is_dashed() and not baseline.is_dashed() and not ours.is_dashed()
    looks = {(line.get_color(), line.get_marker(), line.is_dashed()) for line in drawn.values()}
    assert len(looks) == len(drawn)  # no two curves look alike


def test_the_legend_lists_kinds_apart_and_best_first(measured, published):
    listed = legend(plots.rate_distortion(measured, published))
    best_first = ["AVIF", "HEIC", "WebP", "JPEG XL", "JPEG 2000", "JPEG"]
    assert listed[:10] == ["ganlib light", "ganlib light, realism 1", "", *best_first, ""]
    assert listed.index("Xie 2021 (published)") < listed.index("BPG 4:4:4 (published)") < len(listed) - 1
    assert listed[-1] == "Toderici 2017 (published)"


def test_curves_hold_the_measured_points(measured):
    drawn = lines(plots.rate_distortion(measured[::-1]))
    x, y = drawn["AVIF"].get_data()
    np.testing.assert_allclose(x, RATES)
    np.testing.assert_allclose(y, curve("AVIF", 25.5)["psnr"])


def test_the_scale_fits_what_is_seen(measured):
    """Points above 1 bpp do not stretch the chart, but a curve that leaves it is seen up to the edge."""
    low, high = plots.rate_distortion(measured).axes[0].get_ylim()
    at_edge = np.interp(1, RATES, curve("ganlib light", 26)["psnr"])
    assert low < 22 and at_edge < high < at_edge + 2 < measured["psnr"].max()


def test_other_metrics_and_missing_values(measured):
    table = measured.assign(ms_ssim=np.where(measured["codec"] == "WebP", np.nan, 0.9))
    figure = plots.rate_distortion(table, metric="ms_ssim")
    assert "WebP" not in lines(figure) and len(lines(figure)) == 7
    assert figure.axes[0].get_ylabel() == "MS-SSIM"


def test_an_unknown_system_is_labelled_published_too(measured):
    assert "ELIC (published)" in lines(plots.rate_distortion(measured, curve("ELIC", 28)))


def test_nothing_is_cut_or_covered(measured, published):
    figure = plots.rate_distortion(measured, published)
    FigureCanvasAgg(figure).draw()
    outside, inside = figure.legends[0].get_window_extent(), figure.axes[0].get_tightbbox()
    assert inside.x0 >= 0 and inside.y0 >= 0 and inside.y1 <= figure.bbox.height
    assert outside.x0 >= figure.axes[0].bbox.x1
    assert outside.x1 <= figure.bbox.width and outside.y0 >= 0
    assert figure.axes[0].bbox.width > 0.55 * figure.bbox.width


def test_charts_refuse_what_they_cannot_draw(measured, log, pictures):
    with pytest.raises(ValueError, match="no column bpp"):
        plots.rate_distortion(measured.drop(columns="bpp"))
    with pytest.raises(ValueError, match="lower qualities"):
        plots.rate_distortion(measured[measured["bpp"] > 1])
    with pytest.raises(ValueError, match="no column loss"):
        plots.learning_curve(log.drop(columns="loss"))
    with pytest.raises(ValueError, match="no rows yet"):
        plots.learning_curve(log[:0])
    original, decoded = pictures
    with pytest.raises(ValueError, match="2 pictures, 1 labels"):
        plots.before_after(original, decoded, ["one"], [1, 2])
    for crop in ((0, 0, 302, 9), (5, 5, 5, 9), (-1, 0, 9, 9)):
        with pytest.raises(ValueError, match="301x203"):
            plots.before_after(original, decoded, ["a", "b"], [1, 2], crop=crop)
    with pytest.raises(ValueError, match="shapes differ"):
        plots.before_after(original, [decoded[0][:9]], ["a"], [1])


def contains(canvas, picture):
    """Whether a picture stands in a larger one, every pixel as it is."""
    height, width = picture.shape[:2]
    corners = (canvas[: canvas.shape[0] - height + 1, : canvas.shape[1] - width + 1] == picture[0, 0]).all(axis=2)
    return any((canvas[y : y + height, x : x + width] == picture).all() for y, x in np.argwhere(corners))


@pytest.mark.parametrize("crop", [None, (31, 17, 130, 98), (0, 0, 233, 1), (5, 9, 300, 131)])
def test_pictures_are_shown_pixel_for_pixel(crop, pictures, tmp_path):
    original, decoded = pictures
    figure = plots.before_after(original, decoded, ["q20", "q60"], [900, 2500], crop=crop)
    path = plots.save(figure, tmp_path / "pictures.png")
    canvas = np.asarray(Image.open(path).convert("RGB"))
    x0, y0, x1, y1 = crop or (0, 0, 301, 203)
    for picture in (original, *decoded):
        assert contains(canvas, picture[y0:y1, x0:x1])


def test_many_pictures_go_into_rows(pictures):
    original, decoded = pictures
    figure = plots.before_after(original, decoded * 4, list("abcdefgh"), [1000] * 8)
    canvas = pixels(figure)
    assert canvas.shape[1] <= 1850 and canvas.shape[0] > 2 * 203
    assert contains(canvas, decoded[1]) and len(figure.axes) == 9


def test_captions_tell_bytes_ratio_and_psnr(pictures):
    original, decoded = pictures
    size = len(baselines.encode("JPEG", original, 20))
    figure = plots.before_after(original, decoded[:1], ["JPEG $20$"], [size], original_bytes=50 * size)
    assert not any(text.get_parse_math() for text in figure.texts)  # a label is not TeX
    written = texts(figure)
    assert "JPEG $20$" in written and f"{50 * size:,} bytes" in written
    assert f"{size:,} bytes, 50.0x smaller" in written
    mse = np.mean((original.astype(float) - decoded[0]) ** 2)
    assert f"PSNR {10 * np.log10(255**2 / mse):.2f} dB" in written
    seen = texts(plots.before_after(original, decoded[:1], ["JPEG"], [size], lpips=[0.12345]))
    assert any(text.endswith(" dB, LPIPS 0.123") for text in seen)
    with pytest.raises(ValueError, match="2 distances"):
        plots.before_after(original, decoded[:1], ["JPEG"], [size], lpips=[1, 2])
    raw = texts(plots.before_after(original, decoded[:1], ["JPEG"], [size]))
    assert f"{3 * 203 * 301:,} bytes, raw" in raw


def test_captions_do_not_overlap(pictures):
    original, decoded = pictures
    figure = plots.before_after(
        original, decoded, ["a label of considerable length"] * 2, [123_456] * 2, crop=(0, 0, 20, 20)
    )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [text.get_window_extent() for text in figure.texts if text.get_text()]
    for i, box in enumerate(boxes):
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_learning_curve_has_three_panels(log):
    figure = plots.learning_curve(log.sample(frac=1, random_state=0))
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["loss", "estimated rate (bpp)", "PSNR (dB)"]
    for ax, column in zip(figure.axes, ("loss", "bpp", "psnr")):
        rows, mean = ax.get_lines()
        np.testing.assert_allclose(rows.get_data(), log[["step", column]].to_numpy().T)
        assert np.std(mean.get_ydata()) < 0.7 * np.std(rows.get_ydata())
    assert len(plots.learning_curve(log[:1]).axes) == 3  # a run that has just begun
    assert len(plots.learning_curve(log.assign(lpips=log["loss"])).axes) == 4


def test_learning_curve_of_stage_two_sets_the_adversaries_side_by_side(log):
    names = ("lpips", "adversarial", "d_loss", "d_real", "d_fake")
    log = log.drop(columns="bpp").assign(**{name: log["loss"] * (i + 1) for i, name in enumerate(names)})
    figure = plots.learning_curve(log)
    assert [len(ax.get_lines()) for ax in figure.axes] == [2, 2, 4, 4]  # faint and smooth of each
    last = figure.axes[-1]
    assert [text.get_text() for text in last.get_legend().get_texts()] == ["photographs", "reconstructions"]
    np.testing.assert_allclose(last.get_lines()[2].get_ydata(), log["d_fake"])
    with pytest.raises(ValueError, match="no column d_real"):
        plots.learning_curve(log.drop(columns="d_real"))


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_equal_figures_give_equal_files(suffix, measured, published, tmp_path):
    figure = plots.rate_distortion(measured, published)
    first = plots.save(figure, tmp_path / f"a{suffix}")
    for other_kind in (".png", ".svg"):  # whose text is of another width
        plots.save(figure, tmp_path / f"between{other_kind}")
    again = plots.save(figure, tmp_path / f"b{suffix}")
    other = plots.save(plots.rate_distortion(measured, published), tmp_path / f"c{suffix}")
    assert first.read_bytes() == again.read_bytes() == other.read_bytes()
    assert matplotlib.__version__.encode() not in first.read_bytes()


def test_a_saved_chart_is_an_image(measured, tmp_path):
    path = plots.save(plots.rate_distortion(measured), tmp_path / "new folder" / "chart.png")
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG" and image.size == (1350, 840)
        assert len(image.convert("RGB").getcolors(2**24)) > 50
    assert b"<svg" in plots.save(plots.rate_distortion(measured), tmp_path / "chart.svg").read_bytes()


def test_a_failed_save_leaves_the_old_file(measured, tmp_path, monkeypatch):
    path = plots.save(plots.rate_distortion(measured), tmp_path / "chart.png")
    whole = path.read_bytes()
    figure = plots.rate_distortion(measured)

    def torn(file, **options):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", torn)
    with pytest.raises(OSError, match="disk full"):
        plots.save(figure, path)
    assert path.read_bytes() == whole
    assert [file.name for file in tmp_path.iterdir()] == ["chart.png"]


def test_other_suffixes_are_refused(measured, tmp_path):
    with pytest.raises(ValueError, match="neither .png nor .svg"):
        plots.save(plots.rate_distortion(measured), tmp_path / "chart.pdf")
    assert not list(tmp_path.iterdir())


def test_no_global_state_is_touched():
    """In a process of its own: pyplot is not imported, and the settings are as before."""
    program = """
import sys, tempfile, matplotlib, pandas as pd
from ganlib.evaluation import plots
settings = lambda: {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}
before = settings()  # without "backend": to ask for it imports pyplot
table = pd.DataFrame({"codec": "ganlib", "bpp": [0.1, 0.5], "psnr": [26.0, 30.0]})
plots.save(plots.rate_distortion(table), tempfile.mkdtemp() + "/chart.svg")
assert "matplotlib.pyplot" not in sys.modules, "pyplot was imported"
assert settings() == before, "rcParams changed"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
