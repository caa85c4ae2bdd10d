"""Parts that are drawn by patient."""

from collections import Counter

from counterscan.data.draws import draw, drawn_split, split_at


def test_parts_have_their_sizes_and_stay_where_they_are():
    splits = Counter(drawn_split(f"patient{number}") for number in range(2000))
    assert abs(splits["train"] / 2000 - 0.7) < 0.03
    assert abs(splits["validation"] - splits["test"]) < 80
    assert [drawn_split(name) for name in "abcdefgh"] == [drawn_split(name) for name in reversed("hgfedcba")]
    assert [split_at(number) for number in (0, 0.69, 0.7, 0.84, 0.85)] == [
        "train",
        "train",
        "validation",
        "validation",
        "test",
    ]


def test_purposes_have_draws_of_their_own():
    numbers = [(draw(str(patient), "split"), draw(str(patient), "share")) for patient in range(200)]
    assert all(0 <= number < 1 for pair in numbers for number in pair)
    assert len({number for pair in numbers for number in pair}) == 400
