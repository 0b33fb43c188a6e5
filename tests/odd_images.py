"""Images whose bytes are put together by hand, as no library writes them."""

import struct

import numpy as np
from PIL import Image

Y, X = np.mgrid[0:40, 0:60]
SMOOTH = np.stack([X * 4, Y * 6, 255 - X * 2 - Y], axis=2).astype(np.uint8)
IMAGE = Image.fromarray(SMOOTH)


def boxed(*brands: bytes) -> bytes:
    box = b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])
    return struct.pack(">I", len(box) + 4) + box + bytes(100)


def tiff(order: str, first: dict[int, tuple[int, int]], inner: dict[int, tuple[int, int]] | None = None) -> bytes:
    """A TIFF of an upright thumbnail that Pillow reads, with more tags (tag → type, value), and an inner directory."""
    mark = b"II" if order == "<" else b"MM"
    thumbnail = {
        256: (4, 8),
        257: (4, 8),
        258: (3, 8),
        259: (3, 1),
        262: (3, 1),
        273: (4, 8),
        277: (3, 1),
        279: (4, 64),
    }
    tags = {**thumbnail, **first}
    end = 72 + 2 + 12 * (len(tags) + (inner is not None)) + 4
    if inner is not None:
        tags[330] = (4, end)

    def directory(entries: dict[int, tuple[int, int]]) -> bytes:
        out = struct.pack(f"{order}H", len(entries))
        for tag, (kind, value) in sorted(entries.items()):
            packed = struct.pack(f"{order}HH", value, 0) if kind == 3 else struct.pack(f"{order}I", value)
            out += struct.pack(f"{order}HHI", tag, kind, 1) + packed
        return out + bytes(4)

    header = mark + struct.pack(f"{order}HI", 42, 72) + bytes(range(64))
    return header + directory(tags) + (directory(inner) if inner is not None else b"")


THUMBNAIL, SENSOR = {254: (4, 1)}, {254: (4, 0), 262: (3, 32803)}
REFUSED = {
    "HEIC": boxed(b"heic", b"mif1", b"heic"),
    "HEIC of a burst": boxed(b"msf1", b"hevc"),
    "HEIC by a later brand": boxed(b"xxxx", b"miaf", b"heix"),
    "JPEG XL": b"\xff\x0a\xfa\x7f" + bytes(50),
    "JPEG XL in boxes": bytes.fromhex("0000000c4a584c200d0a870a") + bytes(50),
    "CR2": b"II*\0\x10\0\0\0CR\x02\0" + bytes(100),
    "CR3": boxed(b"crx ", b"isom"),
    "RAF": b"FUJIFILMCCD-RAW 0201" + bytes(50),
    "ORF": b"IIRO\x08\0\0\0" + bytes(50),
    "RW2": b"IIU\0\x18\0\0\0" + bytes(50),
    "DNG": tiff("<", {**THUMBNAIL, 50706: (4, 0x401)}, SENSOR),
    "camera raw": tiff("<", THUMBNAIL, SENSOR),
    "camera raw of big-endian": tiff(">", THUMBNAIL, SENSOR),
    "camera raw whose sensor data come first": tiff("<", SENSOR),
    "camera raw of linear data": tiff("<", THUMBNAIL, {262: (3, 34892)}),
    "TIFF that begins with a thumbnail": tiff("<", THUMBNAIL),
    "TIFF that begins with a thumbnail of something inside": tiff(">", THUMBNAIL, {262: (3, 1)}),
    "PSD": b"8BPS\0\1" + bytes(50),
    "PDF": b"%PDF-1.4\n" + bytes(50),
}
