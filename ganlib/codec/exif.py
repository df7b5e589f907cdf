"""EXIF as bytes: a small TIFF, whose first directory describes the picture. Values are copied unchanged.

Exif\\0\\0 | II*\\0 or MM\\0* | offset of the first directory | directories and values, in any order
directory:  number of entries | for each: tag, type, count, value or its offset | offset of the next directory
"""

import re
import struct

from ganlib.codec.container import MAX_METADATA

START = b"Exif\0\0"
ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}  # bytes of a type's value
LONG = 4  # the type of an offset
# Directories within directories: {tag whose value is the offset of a directory: the same for that directory}
INNER = {0x8769: {0xA005: {}}, 0x8825: {}}


def without(data, tags):
    """EXIF without some tags of its first directory; every other byte stays where it is.

    Returns:
        bytes that begin with START, or None where no tag is left.

    Raises:
        ValueError: it has no first directory.
    """
    tiff = re.sub(b"^(Exif\0\0)*", b"", data)
    order = ORDERS.get(tiff[:4])
    if order is None or len(tiff) < 8:
        raise ValueError("no TIFF header")
    at = struct.unpack_from(order + "L", tiff, 4)[0]
    count = struct.unpack(order + "H", tiff[at : at + 2].ljust(2, b"\0"))[0]
    end = at + 2 + 12 * count
    if at + 2 > len(tiff) or end > len(tiff):
        raise ValueError("its first directory does not end")
    entries = [tiff[i : i + 12] for i in range(at + 2, end, 12)]
    kept = [entry for entry in entries if struct.unpack_from(order + "H", entry)[0] not in tags]
    following = tiff[end : end + 4]  # offset of the next directory
    if not kept and not any(following):
        return None
    directory = struct.pack(order + "H", len(kept)) + b"".join(kept) + following
    end += len(following)
    return START + tiff[:at] + directory.ljust(end - at, b"\0") + tiff[end:]


def of_tiff(file, offset, order, big, tags):
    """The directory of a TIFF file as EXIF, without some tags.

    Args:
        file: opened for reading bytes.
        offset: of the directory.
        order: "<" little-endian, ">" big-endian.
        big: whether it is a BigTIFF.
        tags: to leave out.

    Returns:
        bytes that begin with START, or None where no tag is left.

    Raises:
        ValueError, struct.error: a directory cannot be read, or is larger than what a .gic file holds.
    """
    entries, _ = _read(file, offset, order, big, INNER, MAX_METADATA)
    entries = [entry for entry in entries if entry[0] not in tags]
    header = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "L", 8)
    return START + header + _packed(entries, order, len(header)) if entries else None


def _read(file, offset, order, big, inner, room):
    """Entries (tag, type, count, bytes of the value or entries of an inner directory), and what is left of `room`."""
    number, form = ("Q", "HHQ8s") if big else ("H", "HHL4s")
    file.seek(offset)
    [count] = struct.unpack(order + number, file.read(struct.calcsize("=" + number)))
    size = struct.calcsize("=" + form)
    table = file.read(size * min(count, 2**16))
    if len(table) < size * count:
        raise ValueError("a directory does not end")
    entries = []
    for tag, kind, count, value in struct.iter_unpack(order + form, table):
        place = struct.unpack(order + ("Q" if big else "L"), value)[0]
        if tag in inner and count == 1:
            more, room = _read(file, place, order, big, inner[tag], room)
            entries.append((tag, LONG, 1, more))
        elif kind in SIZES:
            length = count * SIZES[kind]
            room -= length
            if room < 0:
                raise ValueError(f"more than {MAX_METADATA} bytes")
            if length > len(value):
                file.seek(place)
                value = file.read(length)
            if len(value) >= length:  # a value that is cut short is left out
                entries.append((tag, kind, count, value[:length]))
    return entries, room


def _packed(entries, order, at):
    """Bytes of a directory that stands at byte `at`, and of its values."""
    table, values = bytearray(struct.pack(order + "H", len(entries))), bytearray()
    place = at + 2 + 12 * len(entries) + 4  # of the values
    for tag, kind, count, value in sorted(entries, key=lambda entry: entry[0]):
        if isinstance(value, list):
            value, inside = _packed(value, order, place + len(values)), False
        else:
            inside = len(value) <= 4
        table += struct.pack(order + "HHL", tag, kind, count)
        table += value.ljust(4, b"\0") if inside else struct.pack(order + "L", place + len(values))
        if not inside:
            values += value + bytes(len(value) % 2)  # values begin at even bytes
    return bytes(table + bytes(4) + values)
