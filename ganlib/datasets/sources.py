"""Photographs: where they come from, and on what terms."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pooch
from PIL import Image

from ganlib.codec.image_formats import readable_suffixes
from ganlib.config import DATA
from ganlib.datasets.downloads import RemoteFile, fetch_files
from ganlib.folders import visible_files

# In data/ of a clone; an installed package should not write beside its code
DOWNLOADS = (DATA if DATA.name == "data" else pooch.os_cache("ganlib")) / "downloads"

# Photographs that lie inside the package of scikit-image. Its other images are gray, drawn, medical, taken through a
# microscope or a telescope, or show the same scene again (motorcycle_right), which would count twice in a mean.
EMBEDDED = {
    "astronaut": "astronaut.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "motorcycle_left": "motorcycle_left.png",
    "rocket": "rocket.jpg",
}

# Bytes and SHA-256 of kodim01.png to kodim24.png, computed from an unchanged copy of the suite. Other
# projects give the same numbers for the files of r0k.us.
KODAK = """
736501 a56e27cbf5f843c048b6af1d6e090760e9c92fadba88b7dee0205918a37523bd
617995 4f4b74a79237e311d72cad958237b5f7088d8bce1c82305ebefe1a70e3022dfd
502888 e25ca1ff2f0c0cb5fdfd5f9b0a0bb21ac4c3de3c84a67f35b09a85d3306249db
637432 e3b946107c5d3441c022f678d0c3caf1e224d81b1604ba840a4f88e562de61aa
785610 10349e963c5c813d327852f82c1795fa4148d69fedffc4c589bee458e3ac3d53
618959 363510303b715d4cbc384e1ce227e466b613a09e1b71ae985882bf8e7fbd9b18
566322 b77d3f006f42414bb242222e0482e750c0fb9e5ee8d4bed2f6f11c5605fe54a4
788470 ba23983c76b4832ee0e8af0592664756841a16779acd69f792e268fb6d13d6e7
582899 6a4361c2fc194feb4edaa9f9a4a0620fb9943e460ac7fdf037fb0f6dd6607a7d
593463 9dfb70f5867c29ff9ed6313683f19b3d867849e40fbc0c4c54a4a89df341cf23
621023 7936814b58b5387fce2e4e2488b4ec830dadd95fa9520f358ddb30990b50f2b6
531024 d78c37c2f04f23761ed2367dd77e2db584ddd4c3950833fecf89f199a8126980
822712 bc34a3ce58dea09dce1704c997171602de90cb34d0c8503a988b77f473d39b08
692201 55a94550ff18f3246c4074fd32b77b0c74447c26b6ad274d564d999c0450ba6e
612582 7538cbb80cb9103606c48b806eae57d56c885c7f90b9b3be70a41160f9cbb683
534247 a89c7268ccd4718ba424a99fc4643c572cf692ca6eae887185ceb4e9f11d2e54
602078 37afcc89fbdcb76d9518e04b2fc011027e2f4cd14b3b2f83cefd721641a47c5b
780947 1a9258c365988961d87a0598725b609139c303ad48a5aad6c503c3b1a87849aa
671476 b7450b264b1b0a411390d8931b112c27905a992520fc90569dc4b920aa32bbdc
492462 3b46c71e3b92a563820ba32936be8330c586c41f938efd94be938386aae4328a
637051 ac958597c82073f6bb65129c68f72b651db5b9efd82e11547d07350214bc268b
701970 1cee58eb1f2d9c7ebb254d208a03c783ce6cf2c4d8c2cf45e235dd23b4ce1b29
557596 e3111a2fd4da24af15d6459ef9eacfe54106b38e27b4a21821b75c3f5d2d5baf
706397 1071c68372cc5a01435c2c225a5cf7d4bb803846ec08bb6b3d6721b156d7cb96
""".split()


class NoImagesError(ValueError):
    """The folders hold no image that can be read."""


class UnknownSourceError(ValueError):
    """There is no data set of this name."""


@dataclass(frozen=True)
class Source:
    """A public set of photographs, and on what terms it is published."""

    purpose: str  # "training" or "measuring": a picture must never serve both
    images: int
    licence: str
    url: str  # the page about it
    files: tuple[RemoteFile, ...]

    @property
    def megabytes(self):
        """Size of the download, in units of 10^6 bytes."""
        return sum(file.size for file in self.files) / 1e6


# Bytes and SHA-256 of the archives are from tensorflow/datasets, tensorflow_datasets/url_checksums/clic.txt and
# tensorflow_datasets/datasets/{div2k,imagenette}/checksums.tsv. The numbers of images are not checked.
ETH = "https://data.vision.ee.ethz.ch/cvl"
CLIC_TERMS = "professional: Unsplash License; mobile: none stated, given out for research on compression"
DIV2K_TERMS = "academic research only"
SOURCES = {
    "kodak": Source(
        "measuring", 24, "released by Eastman Kodak for unrestricted use", "https://r0k.us/graphics/kodak/",
        tuple(
            RemoteFile(f"https://r0k.us/graphics/kodak/kodak/kodim{i:02}.png", int(size), sha256)
            for i, (size, sha256) in enumerate(zip(KODAK[::2], KODAK[1::2]), 1)
        ),
    ),
    "clic2020": Source(
        "measuring", 102, CLIC_TERMS, "https://www.compression.cc/",
        (
            RemoteFile(f"{ETH}/clic/professional_valid_2020.zip", 134834429,
                       "00be38092ade2ab5163b65f7f6523d46c7bca147007f559adbb02c0afc236b7d"),
            RemoteFile(f"{ETH}/clic/mobile_valid_2020.zip", 236556531,
                       "ff0280382eeb32fdceb28c81a7f47ac9ad86d933ebe901680845635d04e47a10"),
        ),
    ),
    "clic2020-test": Source(
        "measuring", 428, CLIC_TERMS, "https://www.compression.cc/",
        (
            RemoteFile(f"{ETH}/clic/test/CLIC2020Professional_test.zip", 891643809,
                       "857df244fc2bfa5da28d4c66bf0db16ee99bfc79eb807be8afa89cd507852884"),
            RemoteFile(f"{ETH}/clic/test/CLIC2020Mobile_test.zip", 721789976,
                       "2025f07a6c652270e534640de4271feef3b3dd3260beed4ac4821064837aa732"),
        ),
    ),
    "clic2020-train": Source(
        "training", 1633, CLIC_TERMS, "https://www.compression.cc/",
        (
            RemoteFile(f"{ETH}/clic/professional_train_2020.zip", 2003385131,
                       "54a2a684b5cbd0db91770a8695efb774fed1f612194fee68bceaf6b1c48e5d5f"),
            RemoteFile(f"{ETH}/clic/mobile_train_2020.zip", 4042923971,
                       "4bf9d890e6785426fb41cb4f43df3d8cd6db25fafcc76fc1eb629141166d6529"),
        ),
    ),
    "div2k": Source(
        "measuring", 100, DIV2K_TERMS, f"{ETH}/DIV2K/",
        (
            RemoteFile(f"{ETH}/DIV2K/DIV2K_valid_HR.zip", 448993893,
                       "20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc"),
        ),
    ),
    "div2k-train": Source(
        "training", 800, DIV2K_TERMS, f"{ETH}/DIV2K/",
        (
            RemoteFile(f"{ETH}/DIV2K/DIV2K_train_HR.zip", 3530603713,
                       "9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335"),
        ),
    ),
    # torchvision.datasets.Imagenette is not used: it repeats a broken download from the start, and takes a half
    # unpacked folder as complete. But it can open this folder: Imagenette(folder / "imagenette2-320", size="320px").
    "imagenet-subset": Source(
        "training", 13394, "ImageNet's terms: non-commercial research and education",
        "https://github.com/fastai/imagenette",
        (
            RemoteFile("https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-320.tgz", 341663724,
                       "569b4497c98db6dd29f335d1f109cf315fe127053cedf69010d047f0188e158c"),
        ),
    ),
}  # fmt: skip


def describe(name):
    """The Source of this name: purpose, images, megabytes, licence, url; UnknownSourceError where there is none."""
    if name not in SOURCES:
        raise UnknownSourceError(f"no data set {name!r}; there are {', '.join(SOURCES)}")
    return SOURCES[name]


def fetch(name, root=None, progress=True):
    """Download a data set, unless it is there, and return its images.

    A download that was cut off continues where it stopped. Every file is checked against a published SHA-256
    before it is used. A set that is complete needs no network.

    Args:
        name: a key of SOURCES.
        root: folder for all sets; DOWNLOADS by default.
        progress: show a bar.

    Returns:
        Sorted Paths of the images, under root/name.

    Raises:
        UnknownSourceError: no such set.
        DownloadError: no network, no space, no permission to write; the message says which.
        CorruptDownloadError: the server has another file than the one published, or it does not unpack.
    """
    source = describe(name)
    return image_files(*fetch_files(source.files, Path(root or DOWNLOADS) / name, name, progress))


def embedded_files():
    """Photographs that need no network: those inside the package of scikit-image.

    Returns:
        {name: Path}. rocket is stored as a JPEG, the others as PNG.

    Raises:
        NoImagesError: the scikit-image that is installed does not have them.
    """
    import skimage  # not at the top: training does not need it

    folder = Path(skimage.__file__).parent / "data"
    if missing := [file for file in EMBEDDED.values() if not (folder / file).is_file()]:
        raise NoImagesError(f"scikit-image {skimage.__version__} lacks {missing[0]}: install the requirements.txt")
    return {name: folder / file for name, file in EMBEDDED.items()}


def embedded():
    """The photographs of `embedded_files`, decoded: {name: H,W,3 uint8 array}, RGB, 300 to 741 pixels a side."""
    return {name: np.array(Image.open(path).convert("RGB")) for name, path in embedded_files().items()}


def image_files(*folders):
    """Every image under the folders (or the files themselves), sorted, as Paths, each once.

    Hidden files (".name"), and files in hidden folders, are left out; links to folders are followed.

    Raises:
        NoImagesError: a folder is missing, or there is no file with the suffix of a format that the codec reads.
        OSError: a folder, or one in it, cannot be read.
    """
    found, suffixes = set(), readable_suffixes()
    for folder in map(Path, folders):
        if not folder.exists():
            raise NoImagesError(f"{folder} does not exist")
        paths = [folder] if folder.is_file() else visible_files(folder)
        found.update(path for path in paths if path.suffix.lower() in suffixes)
    if not found:
        names = ", ".join(map(str, folders))
        raise NoImagesError(f"no image in {names}: no file there ends in .png, .jpg or another picture's suffix")
    return sorted(found)
