from hypothesis import given, settings
from hypothesis import strategies as st

from counterscan.data.names import safe_names, stem_of


def test_the_stem_is_the_name_where_it_is_enough():
    assert safe_names(["images/IM-1.jpg", "images/v.nii.gz", "x/no_ending"]) == ["IM-1", "v", "no_ending"]


def test_an_ending_of_two_parts_is_one():
    stems = [
        stem_of(name) for name in ("x/a.nii.gz", "A.NII.GZ", "b.hdr.gz", "c.tar.gz", "1.2.840.png", ".hidden", "d")
    ]
    assert stems == ["a", "A", "b", "c.tar", "1.2.840", ".hidden", "d"]
    assert safe_names(["a.nii.gz", "b.hdr.gz"]) == ["a", "b"]


def test_equal_stems_take_their_folders_along():
    assert safe_names(["a/1.png", "b/1.png"]) == ["a_1.png", "b_1.png"]


@settings(deadline=None)
@given(st.lists(st.text(min_size=1, max_size=30), max_size=20))
def test_names_are_unique_and_safe_for_any_paths(paths):
    names = safe_names(paths)
    assert len({name.lower() for name in names}) == len(paths)
    for name in names:
        assert name.isascii()
        assert not set(name) & set('/\\:*?"<>| \0')
        assert not name.startswith((".", "-"))
        assert len(name) <= 104
