"""A file of which only the needed parts are read.

It is not mapped into memory: if a mapped file is cut off, reading beyond its new end kills the process.
"""

from ganlib.codec.header import BitstreamError


class FileOnDisk:
    """Slices of a file as bytes, each read when it is needed.

    Args:
        file: opened for reading bytes, without a buffer; is closed with this object.
        size: of the file, in bytes.

    Raises:
        BitstreamError: from a slice, where the file has become shorter since it was opened.
    """

    def __init__(self, file, size):
        self._file, self._size = file, size

    def __len__(self):
        return self._size

    def __getitem__(self, part):
        begin, end, _ = part.indices(self._size)
        self._file.seek(begin)
        data = self._file.read(max(0, end - begin))
        if len(data) < end - begin:
            raise BitstreamError("the file was cut short while it was read")
        return data

    def __del__(self):
        self._file.close()
