"""Photographs to train on and to measure with."""

from ganlib.datasets.crops import Crops
from ganlib.datasets.downloads import CorruptDownloadError, DownloadError, RemoteFile
from ganlib.datasets.sources import (
    SOURCES,
    NoImagesError,
    Source,
    UnknownSourceError,
    describe,
    embedded,
    embedded_files,
    fetch,
    image_files,
)

__all__ = [
    "SOURCES", "CorruptDownloadError", "Crops", "DownloadError", "NoImagesError", "RemoteFile", "Source",
    "UnknownSourceError", "describe", "embedded", "embedded_files", "fetch", "image_files",
]  # fmt: skip
