"""The text headers of MetaImage and NRRD files, read before a library is trusted with the rest of the file.

Libraries take memory for what a header claims, open the files that it names, and crash over text that is longer than
they thought (ITK 5.4 over a `space` of 3,000 letters). So a header is read here, refused where it claims more than the
file can hold or names values outside its own folder, and written anew, with nothing but what the values need.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from counterscan.data.limits import check_length, check_size
from counterscan.errors import ScanError

LONGEST = 1 << 20  # bytes of a header
LETTERS = 1000  # of one field
VALUES = "values"  # what the file with the values is called in a header written anew
BYTES = {  # a value's size under all names that both formats have for its type
    **dict.fromkeys(("met_char", "met_uchar", "signed char", "int8", "int8_t", "uchar", "unsigned char"), 1),
    **dict.fromkeys(("uint8", "uint8_t", "char"), 1),
    **dict.fromkeys(("met_short", "met_ushort", "short", "short int", "signed short", "signed short int"), 2),
    **dict.fromkeys(("int16", "int16_t", "ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("met_int", "met_uint", "int", "signed int", "int32", "int32_t", "uint", "unsigned int"), 4),
    **dict.fromkeys(("uint32", "uint32_t", "met_float", "float"), 4),
    **dict.fromkeys(("met_long_long", "met_ulong_long", "longlong", "long long", "long long int", "int64"), 8),
    **dict.fromkeys(("signed long long", "signed long long int", "int64_t", "ulonglong", "unsigned long long"), 8),
    **dict.fromkeys(("unsigned long long int", "uint64", "uint64_t", "met_double", "double"), 8),
}
ARRAYS = ("_ARRAY", "_array")
NUMBER = r"([-+]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][-+]?\d{1,3})?)"
NUMBERS = rf"{NUMBER}(\s+{NUMBER}){{0,15}}"
VECTOR = rf"(none|\(\s*{NUMBER}(\s*,\s*{NUMBER}){{0,3}}\s*\))"
VECTORS = rf"{VECTOR}(\s*{VECTOR}){{0,3}}"
AXES = rf"({NUMBER}|nan|NaN)(\s+({NUMBER}|nan|NaN)){{0,3}}"
WORDS = r"[\w?-]{1,40}(\s+[\w?-]{1,40}){0,3}"
WHOLE = r"\d{1,9}(\s+\d{1,9}){0,3}"
TRUTH = "(?i:true|false)"
META = {  # what the values need, as it is to be called, and how it is written; in this order
    "ndims": ("NDims", r"\d"),
    **dict.fromkeys(("offset", "position", "origin"), ("Offset", NUMBERS)),
    **dict.fromkeys(("transformmatrix", "rotation", "orientation"), ("TransformMatrix", NUMBERS)),
    "elementspacing": ("ElementSpacing", NUMBERS),
    "elementsize": ("ElementSize", NUMBERS),
    "dimsize": ("DimSize", WHOLE),
    "elementnumberofchannels": ("ElementNumberOfChannels", r"\d{1,3}"),
    "elementtype": ("ElementType", "[A-Z_]{1,40}"),
    "binarydata": ("BinaryData", TRUTH),
    **dict.fromkeys(("binarydatabyteordermsb", "elementbyteordermsb"), ("BinaryDataByteOrderMSB", TRUTH)),
    "compresseddata": ("CompressedData", TRUTH),
    "compresseddatasize": ("CompressedDataSize", r"\d{1,12}"),
}
NRRD = {
    "type": ("type", r"[a-z_ \d]{1,40}"),
    "dimension": ("dimension", r"\d"),
    "space": ("space", WORDS),
    "spacedimension": ("space dimension", r"\d"),
    "sizes": ("sizes", WHOLE),
    "spacedirections": ("space directions", VECTORS),
    "spacings": ("spacings", AXES),
    "axismins": ("axis mins", AXES),
    "axismaxs": ("axis maxs", AXES),
    **dict.fromkeys(("centers", "centerings"), ("centers", WORDS)),
    "kinds": ("kinds", WORDS),
    "endian": ("endian", "little|big"),
    "encoding": ("encoding", "raw|gzip|gz"),
    "spaceorigin": ("space origin", VECTOR),
}


@dataclass(frozen=True)
class Header:
    """The fields, in lower case and without spaces; the text has so many `lines` and ends at the byte `end`."""

    path: Path
    fields: dict[str, str]
    lines: int
    end: int

    def get(self, name: str, default: str = "") -> str:
        """A field's text, or `default`."""
        return self.fields.get(name, default)

    def whole(self, name: str) -> tuple[int, ...]:
        """A field's whole numbers."""
        text = self.get(name)
        if not re.fullmatch(WHOLE, text):
            raise self.fault(f"{name} is {text[:40]!r} and not whole numbers")
        return tuple(map(int, text.split()))

    def kept(self, known: dict[str, tuple[str, str]], equals: str) -> str:
        """The lines of a header with the `known` fields alone; ScanError for one that is not written as it must be."""
        lines: dict[str, str] = {}
        for name, (proper, form) in known.items():
            if name in self.fields:
                value = self.fields[name]
                if len(value) > LETTERS or not re.fullmatch(form, value):
                    raise self.fault(f"{name} is {value[:40]!r}")
                lines[proper] = f"{proper}{equals}{value}\n"
        return "".join(lines.values())

    def fault(self, what: str) -> ScanError:
        """The error that names the file and what its header says."""
        return ScanError(f"{self.path} has a header that cannot be relied on: {what}; save it again as a plain volume")


@dataclass(frozen=True)
class Claim:
    """What a header claims: (i, j[, k]), channels, whether values are packed, and the file that holds them.

    `text` is the header written anew, for values in the file VALUES beside it.
    """

    shape: tuple[int, ...]
    channels: int
    packed: bool
    data: Path
    text: str


def claim(path: Path, kind: str) -> Claim:
    """What an MHA, MHD, NRRD or NHDR file claims to hold, checked against what is there. Raises ScanError."""
    header = _meta(path) if kind == "mha" else _nrrd(path)
    told = _meta_claim(header) if kind == "mha" else _nrrd_claim(header)
    check_size(path, (*told.shape, told.channels) if told.channels > 1 else told.shape)
    element = header.get("elementtype" if kind == "mha" else "type").lower()
    for ending in ARRAYS:
        element = element.removesuffix(ending)
    if element not in BYTES:
        raise ScanError(f"{path} holds values of type {element[:40] or 'unknown'}; convert it to plain numbers")
    there = told.data.stat().st_size - (header.end if told.data == path else 0)
    wanted = math.prod(told.shape) * told.channels * BYTES[element]
    check_length(path, wanted, there, packed=told.packed)
    return told


def _lines(path: Path) -> list[tuple[str, int]]:
    """The lines of a header of `LONGEST` bytes at most, and where each ends."""
    with path.open("rb") as file:
        head = file.read(LONGEST)
    lines, start = [], 0
    while (end := head.find(b"\n", start)) >= 0:
        lines.append((head[start:end].decode("latin-1").rstrip("\r"), end + 1))
        start = end + 1
        if len(lines) > 1 and (not lines[-1][0] or lines[-1][0].startswith("ElementDataFile")):
            break
    return lines


def _add(path: Path, fields: dict[str, str], name: str, value: str) -> None:
    if name in fields:
        raise ScanError(f"{path} says {name[:40]} twice in its header, and each differently perhaps; save it again")
    fields[name] = value.strip()


def _meta(path: Path) -> Header:
    """`Key = value` lines; the one that names the values is the last."""
    fields: dict[str, str] = {}
    lines = _lines(path)
    for line, _ in lines:
        match = re.fullmatch(r"\s*([A-Za-z0-9][\w|.\- ]{0,200}?)\s*=([\x20-\x7e\t\x80-\xff]*)", line)
        if not match:
            raise ScanError(f"{path} has a header that cannot be read ({line[:40]!r}); copy or save it again")
        _add(path, fields, match[1].lower(), match[2])
    header = Header(path, fields, len(lines), lines[-1][1] if lines else 0)
    for name in ("ndims", "dimsize", "elementtype", "elementdatafile"):
        if name not in fields:
            raise header.fault(f"{name} is missing")
    return header


def _meta_claim(header: Header) -> Claim:
    shape = header.whole("dimsize")
    if header.whole("ndims") != (len(shape),):
        raise header.fault(f"ndims is {header.get('ndims')}, but dimsize has {len(shape)} numbers")
    if header.get("headersize", "0") not in ("0", "-1"):
        raise header.fault("headersize skips a part of the values' file")
    if header.get("binarydata", "true").lower() != "true":
        raise header.fault("values are written as text")
    for name in ("elementspacing", "elementsize"):
        if name in header.fields and len(header.get(name).split()) != len(shape):
            raise header.fault(f"{name} has not {len(shape)} numbers")
    packed = header.get("compresseddata", "false").lower() == "true"
    channels = header.whole("elementnumberofchannels")[0] if "elementnumberofchannels" in header.fields else 1
    data = _data(header, header.get("elementdatafile"))
    skipped = header.end if data == header.path else 0
    text = f"ObjectType = Image\n{header.kept(META, ' = ')}HeaderSize = {skipped}\nElementDataFile = {VALUES}\n"
    return Claim(shape, channels, packed, data, text)


def _nrrd(path: Path) -> Header:
    """`field: value` lines up to an empty one; key/value pairs (`:=`) and comments are passed over."""
    fields: dict[str, str] = {}
    lines = _lines(path)
    for line, _ in lines[1:]:
        if not line or line.startswith("#") or re.match(r"[^:]*:=", line):
            continue
        match = re.fullmatch(r"([A-Za-z ]{1,40}): ?([\x20-\x7e\t\x80-\xff]*)", line)
        if not match:
            raise ScanError(f"{path} has a header that cannot be read ({line[:40]!r}); copy or save it again")
        _add(path, fields, match[1].lower().replace(" ", ""), match[2])
    header = Header(path, fields, len(lines), lines[-1][1] if lines else 0)
    for name in ("dimension", "sizes", "type", "encoding"):
        if name not in fields:
            raise header.fault(f"{name} is missing")
    return header


def _nrrd_claim(header: Header) -> Claim:
    shape = header.whole("sizes")
    if header.whole("dimension") != (len(shape),):
        raise header.fault(f"dimension is {header.get('dimension')}, but sizes has {len(shape)} numbers")
    for name in ("lineskip", "byteskip"):
        if header.get(name, "0") != "0":
            raise header.fault(f"{name} skips a part of the values' file")
    encoding = header.get("encoding").lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise header.fault(f"its values are encoded as {encoding[:20]}; raw and gzip can be read")
    data = _data(header, header.get("datafile", "LOCAL"))
    channels = 1
    first = header.get("kinds").lower().split()[:1]
    if first and first[0] not in ("domain", "space", "???", "none"):  # "RGB-color domain domain" for example
        channels, shape = shape[0], shape[1:]
    skipped = header.lines if data == header.path else 0
    text = f"NRRD0005\n{header.kept(NRRD, ': ')}line skip: {skipped}\ndata file: {VALUES}\n"
    return Claim(shape, channels, encoding != "raw", data, text)


def _data(header: Header, name: str) -> Path:
    """The file that holds the values: the header's own, or one beside it."""
    if name.lower() == "local":
        return header.path
    if name.split()[:1] in (["LIST"], ["list"]) or "%" in name:
        raise header.fault("its values lie in several files")
    folder = header.path.parent
    if not name or "/" in name or "\\" in name or name in (".", ".."):
        raise ScanError(f"{header.path} keeps its values outside its own folder ({name[:80]}); put both side by side")
    data = folder / name
    if not data.is_file():
        raise ScanError(f"{header.path} keeps its values in {name[:80]}, which is not beside it; put it there")
    if data.resolve().parent != folder.resolve():
        raise ScanError(f"{header.path} keeps its values in {name[:80]}, a link to elsewhere; copy the file itself")
    return data
