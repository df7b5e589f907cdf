"""Check that a .gic file is whole, without decoding it. The rules depend on the model that made it."""

from ganlib.codec import container
from ganlib.codec.header import BitstreamError


def whole_part(data, codec=None):
    """The beginning of a file that holds whole chunks: all of it, unless its model allows files to be cut off.

    Args:
        data: bytes of a file.
        codec: Codec with the weights that made the file, if these are not shipped.

    Returns:
        bytes, which container.read() and container.chunks() take.

    Raises:
        BitstreamError: the file is damaged, or cut off where it may not be.
    """
    try:
        container.read(data)
    except BitstreamError:
        codec = codec or _shipped(data)
        if codec is None:  # its model has no other rules
            raise
        return data[: codec.end_of_whole(data)]
    return data


def _shipped(data):
    """The codec of the shipped model that made a file, where it is of another family; else None."""
    from ganlib.codec.codec import shipped_codec
    from ganlib.weights import shipped_family, shipped_with

    header = container.first_header(data)
    name = header and shipped_with(header.fingerprint)
    return shipped_codec(name) if name and shipped_family(name) else None
