"""Whether a .gic file is whole, without decoding it, by the rules of the models that made it."""

from ganlib.codec import container
from ganlib.codec.header import BitstreamError


def whole_part(data, codec=None):
    """The beginning of a file that holds whole chunks: all of it, but where its model lets files be cut off.

    Args:
        data: bytes of a file.
        codec: Codec of the weights that it was made with, where they are not shipped.

    Returns:
        bytes, which container.read() and container.chunks() take.

    Raises:
        BitstreamError: the file is damaged, or cut off where it may not be.
    """
    try:
        container.read(data)
    except BitstreamError:
        codec = codec or _shipped(data)
        if codec is None:  # no other rules
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
