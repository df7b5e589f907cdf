"""How close two pictures are, how busy one is, and how many bits one curve saves over another."""

import numpy as np
import torch
from pytorch_msssim import ms_ssim as _ms_ssim

from ganlib.codec.pixel_tensors import to_tensor
from ganlib.model.perceptual_networks import load_dists, load_lpips, load_vgg16

PEAK = 255  # the largest 8-bit value
LUMA = (0.299, 0.587, 0.114)  # weights of R, G and B, as in JPEG (ITU-R BT.601)
MS_SSIM_SIDE = 161  # smallest side in pixels: an 11-pixel window must fit after four halvings
PERCEPTUAL_SIDE = 64  # smallest side in pixels: the deepest features still have a few positions
PATCH = 64  # side in pixels of the patches that the Frechet distance compares
PATCHES_MIN = 1024  # patches of a set: with fewer than twice the 512 features, a covariance means nothing
BD_POINTS = 4  # fewest points of a curve that BD-rate is defined on (Bjontegaard 2001)
BD_OVERLAP = 0.5  # least part of the shorter curve's PSNR range that both must cover


def _check_pair(reference, image):
    """Two uint8 arrays of one shape, HxW or HxWx3; ValueError says what is wrong."""
    for name, pixels in (("reference", reference), ("image", image)):
        if getattr(pixels, "dtype", None) != np.uint8:
            found = getattr(pixels, "dtype", type(pixels).__name__)
            raise ValueError(
                f"{name} is {found}, not a uint8 array: round, clip to 0..255 and convert with .astype(np.uint8)"
            )
        if not (pixels.ndim == 2 or pixels.ndim == 3 and pixels.shape[2] == 3) or not pixels.size:
            raise ValueError(f"{name} has shape {pixels.shape}: give HxW or HxWx3, without batch or alpha")
    if reference.shape != image.shape:
        raise ValueError(f"shapes differ, {reference.shape} and {image.shape}: crop the padding or decode it whole")


def psnr(reference, image):
    """Peak signal-to-noise ratio over all channels together: 10 log10(255^2 / MSE).

    The MSE is a mean over R, G and B alike. Means over the channels' own PSNR, or over luma, give other numbers.

    Args:
        reference, image: HxWx3 or HxW uint8 arrays.

    Returns:
        dB, a float; inf where the two are identical.

    Raises:
        ValueError: a type or shape that would give a wrong number.
    """
    _check_pair(reference, image)
    error = reference.astype(np.int32) - image  # uint8 would wrap around
    squares = np.square(error).sum(dtype=np.int64)  # exact, in any order
    return float(10 * np.log10(PEAK**2 * error.size / squares)) if squares else float("inf")


def ms_ssim(reference, image):
    """Multi-scale structural similarity, mean over the channels (Wang, Simoncelli and Bovik 2003).

    Args:
        reference, image: HxWx3 or HxW uint8 arrays, both sides above 160 pixels.

    Returns:
        A float up to 1, which means identical.

    Raises:
        ValueError: a type or shape that would give a wrong number, or a picture too small for five scales.
    """
    _check_pair(reference, image)
    if min(reference.shape[:2]) < MS_SSIM_SIDE:
        raise ValueError(
            f"MS-SSIM halves the picture four times and needs sides of {MS_SSIM_SIDE} pixels or more, not "
            f"{reference.shape[1]}x{reference.shape[0]}: measure a larger picture, or use psnr()"
        )
    # float64: variances are differences of squares, which reach 65,025
    planes = [torch.from_numpy(p.reshape(*p.shape[:2], -1).astype(np.float64)) for p in (reference, image)]
    x, x_hat = (p.permute(2, 0, 1)[None] for p in planes)  # H,W,3 -> 1,3,H,W
    return _ms_ssim(x, x_hat, data_range=PEAK).item()


def _tensor(pixels):
    """HxWx3 or HxW uint8 -> 1,3,H,W float32 in [0, 1]."""
    planes = np.broadcast_to(pixels.reshape(*pixels.shape[:2], -1), (*pixels.shape[:2], 3))
    return to_tensor(planes).contiguous()


def _check_side(name, pixels):
    if min(pixels.shape[:2]) < PERCEPTUAL_SIDE:
        raise ValueError(
            f"{name} needs sides of {PERCEPTUAL_SIDE} pixels or more, not "
            f"{pixels.shape[1]}x{pixels.shape[0]}: measure a larger picture, or use psnr()"
        )


def _perceptual_pair(name, reference, image):
    _check_pair(reference, image)
    _check_side(name, reference)
    return _tensor(reference), _tensor(image)


@torch.no_grad()
def lpips(reference, image):
    """Learned perceptual image patch similarity over AlexNet, version 0.1 (Zhang et al. 2018; package `lpips`).

    Args:
        reference, image: HxWx3 or HxW uint8 arrays, both sides 64 pixels or more.

    Returns:
        A distance, 0 where the two are identical; JPEG at 0.3 bpp is near 0.29 on Kodak.

    Raises:
        ValueError: a type, shape or size that would give a wrong number.
    """
    return load_lpips()(*_perceptual_pair("LPIPS", reference, image), normalize=True).item()


@torch.no_grad()
def dists(reference, image):
    """Deep image structure and texture similarity over VGG16 (Ding et al. 2020; package `DISTS_pytorch`).

    It compares means and correlations of features over the whole picture, so a texture that is resampled counts
    less than one that is missing. The picture is seen at its own size, not resized to 256 pixels.

    Args:
        reference, image: HxWx3 or HxW uint8 arrays, both sides 64 pixels or more.

    Returns:
        A distance, 0 where the two are identical; JPEG at 0.3 bpp is near 0.23 on Kodak.

    Raises:
        ValueError: as lpips.
    """
    return load_dists()(*_perceptual_pair("DISTS", reference, image)).item()


@torch.no_grad()
def patch_features(image):
    """VGG16's features of every 64x64 patch of a picture, side by side.

    Args:
        image: HxWx3 or HxW uint8, both sides 64 pixels or more.

    Returns:
        patches,512 float64: relu5_3, a mean over each patch; rows and columns beyond the last patch are left out.

    Raises:
        ValueError: as lpips.
    """
    _check_pair(image, image)
    _check_side("the patch Frechet distance", image)
    patches = _tensor(image).unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH)  # 1,3,rows,columns,64,64
    patches = patches[0].permute(1, 2, 0, 3, 4).reshape(-1, 3, PATCH, PATCH)
    network = load_vgg16()
    # each patch alone, as if cut out: its features do not depend on what lies around it
    return torch.cat([network(part).mean(dim=(2, 3)) for part in patches.split(64)]).double().numpy()


def frechet_distance(reference, images):
    """Frechet distance between two sets of patches, each taken as a Gaussian in VGG16's features.

    |mean_1 - mean_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2)). It does not pair patches: a likely
    texture costs nothing, even if it is not the original one. This is FID (Heusel et al. 2017) with VGG16
    instead of Inception and patches instead of pictures: compare values with each other, never with published FID.

    Args:
        reference, images: patches,512 arrays, from `patch_features` of at least a few pictures each.

    Returns:
        A distance, 0 where means and covariances agree.

    Raises:
        ValueError: fewer than 1,024 patches in a set.
    """
    for patches in (reference, images):
        if len(patches) < PATCHES_MIN:
            raise ValueError(
                f"{len(patches)} patches are too few for a covariance of {patches.shape[1]} features: measure "
                f"{PATCHES_MIN} or more: eleven pictures of Kodak's 768x512 pixels have as many"
            )
    c_1, c_2 = (np.cov(patches, rowvar=False) for patches in (reference, images))
    # with C_1 = A A^T the eigenvalues of C_1 C_2 are those of A^T C_2 A, which is symmetric; rounding may put some
    # just below zero
    values, vectors = np.linalg.eigh(c_1)
    a = vectors * np.sqrt(values.clip(min=0))
    root = np.sqrt(np.linalg.eigvalsh(a.T @ c_2 @ a).clip(min=0)).sum()
    apart = np.square(reference.mean(axis=0) - images.mean(axis=0)).sum()
    return float(max(0.0, apart + np.trace(c_1) + np.trace(c_2) - 2 * root))


def detail(pixels):
    """How busy a picture is: the mean length of its luma's gradient, in 8-bit levels per pixel.

    Args:
        pixels: H,W,3 uint8, 2 pixels a side or more.
    """
    down, right = np.gradient(np.asarray(pixels) @ np.array(LUMA))
    return float(np.hypot(down, right).mean())


def bits_per_pixel(n_bytes, width, height):
    """Rate of a file, all of it: 8 * bytes / pixels.

    Args:
        n_bytes: length of the file.
        width, height: of the picture in pixels.

    Raises:
        ValueError: a picture without pixels, or a negative length.
    """
    if width < 1 or height < 1 or n_bytes < 0:
        raise ValueError(f"no rate for {n_bytes} bytes and {width}x{height} pixels: give the file's length and size")
    return 8 * n_bytes / (width * height)


def _curve(name, bpp, psnr_db):
    """A curve as two float arrays, sorted by bpp; ValueError if it does not rise."""
    bpp, psnr_db = (np.asarray(values, dtype=np.float64) for values in (bpp, psnr_db))
    if bpp.ndim != 1 or bpp.shape != psnr_db.shape:
        raise ValueError(f"{name}: {bpp.shape} rates and {psnr_db.shape} PSNR values: give one of each for a point")
    if len(bpp) < BD_POINTS:
        raise ValueError(f"{name} has {len(bpp)} points: measure at {BD_POINTS} qualities or more")
    if not (np.isfinite(bpp).all() and np.isfinite(psnr_db).all() and (bpp > 0).all()):
        raise ValueError(f"{name} has rates or PSNR values that are not positive, finite numbers: drop those points")
    order = np.argsort(bpp, kind="stable")
    bpp, psnr_db = bpp[order], psnr_db[order]
    flat = np.flatnonzero((np.diff(psnr_db) <= 0) | (np.diff(bpp) <= 0))
    if len(flat):
        i = flat[0]
        raise ValueError(
            f"{name} does not rise from {bpp[i]:.4f} bpp, {psnr_db[i]:.2f} dB to {bpp[i + 1]:.4f} bpp, "
            f"{psnr_db[i + 1]:.2f} dB: keep one point for each rate, from one setting of the codec"
        )
    return bpp, psnr_db


def bd_rate(baseline_bpp, baseline_psnr, bpp, psnr):
    """Bjontegaard delta rate: bits that a codec needs more than the baseline, at equal PSNR.

    Averages log(rate) over the PSNR range that both curves cover. Between the points the curves are PCHIP, as in
    JVET's common test conditions: it rises wherever the points rise, for any spacing. A cubic polynomial can
    overshoot far, and Akima does not guarantee a rise. On pairs of published Kodak curves thinned to four points
    PCHIP came as near to the value from all points (mean error 3.3 percentage points) as Akima (3.6).

    Args:
        baseline_bpp, baseline_psnr: at least four points of the baseline, in any order.
        bpp, psnr: at least four points of the codec under test, in any order; their number may differ.

    Returns:
        Percent: -20.0 means a fifth fewer bits than the baseline.

    Raises:
        ValueError: too few points, a curve that does not rise, or PSNR ranges that share less than half of the
            shorter one. Never returns nan.

    Source: Bjontegaard, VCEG-M33 (2001); package `bjontegaard`.
    """
    from bjontegaard import bd_rate as _bd_rate  # here, because it imports pyplot

    baseline_bpp, baseline_psnr = _curve("the baseline", baseline_bpp, baseline_psnr)
    bpp, psnr = _curve("the codec", bpp, psnr)
    low, high = max(baseline_psnr[0], psnr[0]), min(baseline_psnr[-1], psnr[-1])
    shorter = min(baseline_psnr[-1] - baseline_psnr[0], psnr[-1] - psnr[0])
    if high - low < BD_OVERLAP * shorter:
        raise ValueError(
            f"the baseline spans {baseline_psnr[0]:.2f} to {baseline_psnr[-1]:.2f} dB and the codec {psnr[0]:.2f} to "
            f"{psnr[-1]:.2f}: measure more points, so that they share at least half of the shorter range"
        )
    # min_overlap=0: the package's own check, relative to both ranges together, would warn of a wide baseline
    percent = _bd_rate(
        baseline_bpp, baseline_psnr, bpp, psnr, method="pchip", require_matching_points=False, min_overlap=0
    )
    return float(percent)
