"""Rate-distortion curves that others published, each point with its source."""

import pandas as pd

from ganlib.config import DATA

PUBLISHED_FILE = DATA / "reference" / "published_rd.csv"

# Systems on the report's chart -> their label there: the five models that the report cites (Zou in two
# forms), the generative codec to measure against, and the conventional ones that papers compare with.
PUBLISHED = {
    "Toderici 2017 (RNN)": "Toderici 2017 (published)",
    "Islam 2021 (RNN+GDN)": "Islam 2021 (published)",
    "Song 2021 (Qmap/SFT)": "Song 2021 (published)",
    "Xie 2021 (InvCompress)": "Xie 2021 (published)",
    "WACNN (Zou 2022)": "Zou 2022, WACNN (published)",
    "STF (Zou 2022)": "Zou 2022, STF (published)",
    "HiFiC": "HiFiC (published)",
    "VTM": "VVC, VTM (published)",
    "BPG 4:4:4": "BPG 4:4:4 (published)",
}


def published(dataset="kodak", systems=None):
    """Curves that others measured on a data set, each point with its source.

    Args:
        dataset: "kodak", "clic2020" or "div2k".
        systems: names to keep, such as PUBLISHED; all where None.

    Returns:
        DataFrame of codec, dataset, bpp, psnr (dB, a mean over the images), ms_ssim, lpips, fid (nan where
        not published), reference, source and notes, in the file's order of codecs, then by rising bpp.

    Raises:
        FileNotFoundError: the table is missing from this installation.
        ValueError: nothing is published here for the data set, or for one of the systems.
    """
    if not PUBLISHED_FILE.exists():
        raise FileNotFoundError(f"{PUBLISHED_FILE} is missing: install ganlib again, or fetch the file with git")
    table = pd.read_csv(PUBLISHED_FILE).rename(columns={"system": "codec", "psnr_db": "psnr"})
    if dataset not in set(table["dataset"]):
        raise ValueError(f"nothing published on {dataset!r}: choose one of {', '.join(table['dataset'].unique())}")
    table = table[table["dataset"] == dataset]
    if systems is not None:
        if unknown := [system for system in systems if system not in set(table["codec"])]:
            raise ValueError(f"nothing published on {dataset} by {', '.join(unknown)}: see published({dataset!r})")
        table = table[table["codec"].isin(systems)]
    order = table["codec"].map({codec: i for i, codec in enumerate(table["codec"].unique())})
    table = table.assign(order=order).sort_values(["order", "bpp"], kind="stable").drop(columns="order")
    columns = ["codec", "dataset", "bpp", "psnr", "ms_ssim", "lpips", "fid", "reference", "source", "notes"]
    return table[columns].reset_index(drop=True)
