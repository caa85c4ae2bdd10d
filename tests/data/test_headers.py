import gzip
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counterscan.data.headers import VALUES, claim
from counterscan.errors import CounterscanError, ScanError

META = """ObjectType = Image
NDims = 3
BinaryData = True
CompressedData = False
Offset = 1 -2.5 3e1
ElementSpacing = 0.7 0.7 2
0010|0010 = Mustermann^Erika
DimSize = 4 3 2
ElementType = MET_SHORT
ElementDataFile = LOCAL
"""
NRRD = """NRRD0004
# a comment: with a colon
type: short
dimension: 3
space: left-posterior-superior
sizes: 4 3 2
space directions: (0.7,0,0) (0,0.7,0) (0,0,2)
kinds: domain domain domain
endian: little
encoding: raw
space origin: (1,-2.5,3e1)
patient:=Mustermann
"""
TEXTS = {"mha": (META, "a.mha"), "nrrd": (NRRD + "\n", "a.nrrd")}


def write(folder, kind, *changes, data=bytes(48)):
    text, name = TEXTS[kind]
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / name).write_bytes(text.encode() + data)
    return folder / name


@pytest.mark.parametrize("kind", ["mha", "nrrd"])
def test_a_header_says_what_follows(tmp_path, kind):
    path = write(tmp_path, kind)
    told = claim(path, kind)
    assert (told.shape, told.channels, told.packed, told.data) == ((4, 3, 2), 1, False, path)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("mha", ("Mustermann^Erika", "x" * 3000)),
        ("mha", ("NDims", "Comment = " + "x" * 3000 + "\nNDims")),
        ("nrrd", ("Mustermann", "x" * 3000)),
        ("nrrd", ("a comment", "x" * 3000)),
        ("nrrd", ("endian: little", "endian: little\nunheard of: xxx")),
    ],
)
def test_the_library_is_given_what_the_values_need_and_nothing_else(tmp_path, kind, change):
    written = claim(write(tmp_path, kind, change), kind).text
    assert "xxx" not in written
    assert "Mustermann" not in written
    needed = {"4 3 2", "1 -2.5 3e1", VALUES} if kind == "mha" else {"4 3 2", "(1,-2.5,3e1)", "little", VALUES}
    assert needed <= {line.partition(" = ")[2] or line.partition(": ")[2] for line in written.splitlines()}


def test_packed_values_are_told(tmp_path):
    assert claim(write(tmp_path, "nrrd", (": raw", ": gzip"), data=gzip.compress(bytes(48))), "nrrd").packed
    assert claim(write(tmp_path, "mha", ("Data = False", "Data = True"), data=zlib.compress(bytes(48))), "mha").packed


def test_colour_comes_first_in_nrrd_and_is_a_number_in_meta_image(tmp_path):
    colour = [("sizes: 4 3 2", "sizes: 3 4 3"), ("domain domain domain", "RGB-color domain domain"), ("short", "uchar")]
    told = claim(write(tmp_path, "nrrd", *colour), "nrrd")
    assert (told.shape, told.channels) == ((4, 3), 3)
    colour = [("MET_SHORT", "MET_UCHAR_ARRAY"), ("DimSize", "ElementNumberOfChannels = 3\nDimSize")]
    assert claim(write(tmp_path, "mha", *colour, data=bytes(72)), "mha").channels == 3


FAULTS = {
    "mha": [
        (("4 3 2", "40000 30000 20000"), "more than can be opened safely"),
        (("4 3 2", "400 300 200"), "claims 48,000,000 bytes"),
        (("4 3 2", "4 3"), "ndims is 3, but dimsize has 2"),
        (("4 3 2", "4 3 0"), "no image"),
        (("4 3 2", "4 3 2\nDimSize = 9 9 9"), "says dimsize twice"),
        (("MET_SHORT", "MET_OTHER"), "type met_other"),
        (("ElementType = MET_SHORT\n", ""), "elementtype is missing"),
        (("1 -2.5 3e1", "1 nan 3"), "offset is '1 nan 3'"),
        (("1 -2.5 3e1", "1234567890 " * 80 + "x"), "offset is '1234"),
        (("1 -2.5 3e1", "1 " + "0" * 3000 + " 3"), "offset is '1 000"),
        (("0.7 0.7 2", "0.7 0.7"), "elementspacing has not 3"),
        (("BinaryData = True", "BinaryData = False"), "written as text"),
        (("NDims = 3", "NDims = 3\nHeaderSize = 40"), "headersize skips"),
        (("NDims = 3", "NDims : 3"), "cannot be read"),
        (("LOCAL", "/etc/passwd"), "outside its own folder"),
        (("LOCAL", "../secret.raw"), "outside its own folder"),
        (("LOCAL", "LIST"), "several files"),
        (("LOCAL", "slice%03d.raw 1 3 1"), "several files"),
        (("LOCAL", "none.raw"), "not beside it"),
        (("LOCAL", "link.raw"), "a link to elsewhere"),
    ],
    "nrrd": [
        (("4 3 2", "40000 30000 20000"), "more than can be opened safely"),
        (("4 3 2", "400 300 200"), "claims 48,000,000 bytes"),
        (("4 3 2", "4 3"), "dimension is 3, but sizes has 2"),
        (("4 3 2", "4 3 -2"), "not whole numbers"),
        (("4 3 2", "4 3 2\nsizes: 9 9 9"), "says sizes twice"),
        (("short", "block"), "type block"),
        (("dimension: 3\n", ""), "dimension is missing"),
        (("(1,-2.5,3e1)", "(1,nan,3)"), r"spaceorigin is '\(1,nan,3\)'"),
        (("raw", "bzip2"), "encoded as bzip2"),
        (("left-posterior-superior", "left-p" + "[" * 3000), "space is 'left-p"),  # which has crashed ITK's reader
        (("left-posterior-superior", "x" * 300), "space is 'xxx"),
        (("(0.7,0,0)", "(0.7," + "0" * 3000 + ",0)"), "spacedirections is"),
        (("endian: little", "byte skip: -1"), "byteskip skips"),
        (("endian: little", "no colon"), "cannot be read"),
        (("endian: little", "data file: /etc/passwd"), "outside its own folder"),
        (("endian: little", "datafile: ../secret.raw"), "outside its own folder"),
        (("endian: little", "data file: LIST"), "several files"),
        (("endian: little", "data file: s%03d.raw 1 3 1"), "several files"),
        (("endian: little", "data file: none.raw"), "not beside it"),
        (("endian: little", "data file: link.raw"), "a link to elsewhere"),
    ],
}


@pytest.mark.parametrize(("kind", "change", "words"), [(kind, *fault) for kind in FAULTS for fault in FAULTS[kind]])
def test_a_header_that_lies_or_leads_elsewhere_is_refused(tmp_path, kind, change, words):
    (tmp_path / "secret.raw").write_bytes(bytes(48))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.raw").symlink_to(tmp_path / "secret.raw")
    path = write(tmp_path / "in", kind, change)
    with pytest.raises(ScanError, match=words) as caught:
        claim(path, kind)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_beside_the_header_are_found(tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(48))
    path = write(tmp_path, "mha", ("LOCAL", "a.raw"), data=b"")
    assert claim(path, "mha").data == tmp_path / "a.raw"


@given(st.sampled_from(["mha", "nrrd"]), st.integers(0, 250), st.binary(max_size=6))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_in_a_header_are_read_or_refused(tmp_path, kind, place, noise):
    text, name = TEXTS[kind]
    content = text.encode()
    (tmp_path / name).write_bytes(content[:place] + noise + content[place + len(noise) :] + bytes(48))
    said = ""
    try:
        claim(tmp_path / name, kind)
    except CounterscanError as error:
        said = str(error)
    assert "\n" not in said
