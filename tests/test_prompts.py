"""Findings to sentences and back: nothing is lost, nothing unknown is said, and sides are the patient's."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterscan.errors import CounterscanError
from counterscan.prompts import (
    CHEST,
    Mention,
    mentions_of,
    mirrored,
    normal_text,
    paraphrase,
    read,
    report,
    tokens,
    vocabulary,
)
from counterscan.prompts.places import LUNGS, area_of, zone_at

SETS = (
    CHEST,
    ("normal", "pneumonia", "covid"),
    ("dr", "drusen"),
    ("tumour", "cyst", "poor_outcome", "Pleural Thickening"),
)
SEVERITIES, SIDES, ZONES = (
    ("", "small", "moderate", "large"),
    ("", "left", "right", "both"),
    ("", "upper", "middle", "lower"),
)
OTHER = {"left": "right", "right": "left"}
seeds = st.integers(0, 10**6)
patient = settings(max_examples=60, deadline=None)


def mention(name: str) -> st.SearchStrategy[Mention]:
    severity, side, zone = (st.sampled_from(words) for words in (SEVERITIES, SIDES, ZONES))
    if name == "cardiomegaly":
        side = zone = st.just("")
    return st.builds(Mention, st.just(name), st.booleans(), severity, side, zone)


@st.composite
def rows(draw, least: int = 0):
    """Classes, and what is known of some of them."""
    classes = draw(st.sampled_from(SETS))
    names = draw(st.permutations([name for name in classes if name != "normal"]))
    known = names[: draw(st.integers(least, len(names)))]
    return classes, tuple(draw(mention(name)) for name in known)


def labels_of(mentions):
    return {one.finding: float(one.present) for one in mentions}


@patient
@given(rows(least=1))
def test_a_report_is_read_as_what_it_was_written_from(row):
    classes, mentions = row
    assert read(report(mentions), classes).mentions == mentions
    assert read(report(mentions), classes).unknown == ()


@patient
@given(rows(), seeds)
def test_a_paraphrase_says_nothing_that_is_not_so(row, seed):
    classes, mentions = row
    reading = read(paraphrase(mentions, random.Random(seed), classes), classes)
    known = {one.finding: one for one in mentions}
    assert reading.unknown == ()
    for said in reading.mentions:
        assert said.finding in known, "a finding that nobody labelled is neither said nor denied"
        truth = known[said.finding]
        assert said.present == truth.present
        for word in ("severity", "side", "zone"):
            left_out = getattr(said, word) == "" and said.present
            assert left_out or getattr(said, word) == getattr(truth, word)


@patient
@given(rows(), seeds)
def test_a_paraphrase_names_all_that_is_there(row, seed):
    classes, mentions = row
    said = read(paraphrase(mentions, random.Random(seed), classes), classes).mentions
    present = {one.finding for one in mentions if one.present}
    assert {one.finding for one in said if one.present} == present
    assert present or {one.finding for one in said} == {one.finding for one in mentions}, "and denies all that is not"


@patient
@given(rows(), seeds)
def test_the_vocabulary_holds_every_word_that_is_written(row, seed):
    classes, mentions = row
    texts = [paraphrase(mentions, random.Random(seed + more), classes) for more in range(5)]
    words = {word for text in [*texts, report(mentions), normal_text(classes)] for word in tokens(text)}
    assert words <= set(vocabulary(classes))


def test_the_vocabulary_is_sorted_and_holds_no_word_that_is_never_written():
    rng, said = random.Random(0), set(tokens(report(()))) | set(tokens(normal_text(CHEST)))
    for _ in range(3000):
        rest = [rng.choice(words) for words in (SEVERITIES, SIDES, ZONES)]
        row = [Mention(name, rng.random() < 0.3, *rest) for name in rng.sample(CHEST, 2)]
        row += [Mention(name, False) for name in CHEST if all(name != one.finding for one in row)]
        said |= set(tokens(paraphrase(row, rng))) | set(
            tokens(paraphrase([Mention(name, False) for name in CHEST], rng))
        )
    assert list(vocabulary(list(CHEST))) == sorted(said)


@patient
@given(rows(least=1))
def test_a_mirrored_text_says_the_other_side_and_nothing_else(row):
    classes, mentions = row
    flipped = tuple(replace(one, side=OTHER.get(one.side, one.side)) for one in mentions)
    assert read(mirrored(report(mentions)), classes).mentions == flipped


@patient
@given(
    st.one_of(
        st.text(),
        st.lists(st.sampled_from(["Left", "right", "LEFT", "-", "RUL", "bright", " ", "sided", "é"])).map("".join),
    )
)
def test_mirrored_twice_is_the_text_itself(text):
    assert mirrored(mirrored(text)) == text


def test_mirroring_knows_where_a_word_ends():
    assert mirrored("Left-sided, upright, LUL; Rightward RIGHT") == "Right-sided, upright, RUL; Leftward LEFT"


@pytest.mark.parametrize("classes", SETS)
def test_the_normal_text_denies_every_class_once(classes):
    reading = read(normal_text(classes), classes)
    assert sorted(reading.mentions, key=lambda one: one.finding) == [
        Mention(name, False) for name in sorted(set(classes) - {"normal"})
    ]
    assert reading.unknown == ()


def test_the_normal_text_of_a_chest():
    said = "The lungs are clear. No consolidation, pleural effusion, nodule or pneumothorax. Heart size is normal."
    assert normal_text(CHEST) == said
    assert normal_text(("normal",)) == ""
    assert report(()) == "The lungs are clear. No acute finding."


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (Mention("effusion", True, "small", "left"), "Small left pleural effusion."),
        (Mention("effusion", True, "large", "both"), "Large bilateral pleural effusions."),
        (Mention("pneumothorax", True, "", "both", "upper"), "Bilateral pneumothoraces in the upper zones."),
        (Mention("nodule", True, "moderate", "right", "middle"), "Moderate nodule in the right middle zone."),
        (Mention("nodule", True, "", "right"), "Nodule in the right lung."),
        (Mention("consolidation", True, "", "both", "lower"), "Bilateral consolidations in the lower zones."),
        (Mention("cardiomegaly", True, "large"), "Marked cardiomegaly."),
        (Mention("covid", False), "No COVID-19 pneumonia."),
        (Mention("Pleural Effusion", False, "large", "left"), "No large left pleural effusion."),
        (Mention("drusen", True, "", "left"), "Left drusen."),
        (Mention("lung_opacity", True, "", "both"), "Bilateral lung opacities."),
    ],
)
def test_the_canonical_sentence(said, text):
    assert report([said]) == text


@pytest.mark.parametrize("name", [*CHEST, "covid", "tumour"])
def test_a_finding_has_four_wordings_and_more(name):
    full = Mention(name, True, "small", *(("left", "lower") if name != "cardiomegaly" else ()))
    for said in (full, Mention(name)):
        texts = {paraphrase([said], random.Random(seed)) for seed in range(200)}
        whole = {text for text in texts if read(text, [name]).mentions == (said,)}
        assert len(whole) >= 4, whole


def test_severity_side_and_zone_are_each_left_out_one_time_in_four():
    said = Mention("nodule", True, "small", "left", "lower")
    texts = [paraphrase([said], random.Random(seed)) for seed in range(2000)]
    for word in ("small", "left", "lower"):
        assert sum(word not in text.lower() for text in texts) / 2000 == pytest.approx(0.25, abs=0.04)


def test_a_denial_keeps_what_it_is_limited_to():
    said = Mention("effusion", False, "large", "left")
    assert {paraphrase([said], random.Random(seed)) for seed in range(50)} == {"No large left pleural effusion."}


def test_a_normal_image_has_several_texts_and_one_with_gaps_in_its_labels_is_not_called_normal():
    healthy = mentions_of(dict.fromkeys(CHEST, 0), {})
    assert len({paraphrase(healthy, random.Random(seed)) for seed in range(200)}) >= 5
    gap = mentions_of(dict.fromkeys(CHEST, 0) | {"nodule": None}, {})
    for seed in range(200):
        text = paraphrase(gap, random.Random(seed))
        assert not {"lungs", "abnormality", "finding", "study", "nodule", "radiograph"} & set(tokens(text))
    assert paraphrase((), random.Random(0)) == ""


def test_some_of_what_is_absent_is_denied_and_the_order_changes():
    row = mentions_of({"effusion": 1, "nodule": 0, "pneumothorax": 0}, {})
    texts = {paraphrase(row, random.Random(seed)) for seed in range(300)}
    denied = [{one.finding for one in read(text, CHEST).mentions if not one.present} for text in texts]
    assert {frozenset(names) for names in denied} == {
        frozenset(names) for names in ((), ("nodule",), ("pneumothorax",), ("nodule", "pneumothorax"))
    }
    assert {text.startswith("No ") for text in texts} == {True, False}


@patient
@given(rows())
def test_labels_and_facts_come_back_as_mentions(row):
    _, mentions = row
    facts = {f"{one.finding}_{word}": getattr(one, word) for one in mentions for word in ("severity", "side", "zone")}
    for one, back in zip(mentions, mentions_of(labels_of(mentions), facts), strict=True):
        pleural = one.finding in ("effusion", "pneumothorax")
        expected = replace(one, zone="" if pleural else one.zone) if one.present else Mention(one.finding, False)
        assert back == expected


def test_what_is_not_known_is_left_out():
    labels = {
        "normal": 0,
        "effusion": 1.0,
        "nodule": None,
        "mass": float("nan"),
        "edema": -1,
        "cardiomegaly": 1,
        "covid": 0,
    }
    facts = {"effusion_side": "left", "effusion_severity": "dreadful", "cardiomegaly_side": "left", "marker": "L"}
    assert mentions_of(labels, facts) == (
        Mention("effusion", side="left"),
        Mention("cardiomegaly"),
        Mention("covid", present=False),
    )


def shortly(text: str) -> list[str]:
    parts = [
        (("+" if one.present else "-") + one.finding, one.severity, one.side, one.zone)
        for one in read(text, CHEST).mentions
    ]
    return [" ".join(filter(None, part)) for part in parts]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tiny left apical pneumothorax, no effusion", ["+pneumothorax small left upper", "-effusion"]),
        ("Mild bibasal consolidation without pleural effusion", ["+consolidation small both lower", "-effusion"]),
        ("LLL consolidation and a nodule at the right apex", ["+consolidation left lower", "+nodule right upper"]),
        ("Consolidation in the left lower lobe", ["+consolidation left lower"]),
        ("the lungs are free of consolidation or nodule", ["-consolidation", "-nodule"]),
        ("The lungs are clear and the heart is enlarged", ["-consolidation", "-nodule", "+cardiomegaly"]),
        ("Heart and lungs are normal", ["-cardiomegaly", "-consolidation", "-nodule"]),
        ("No effusion, large nodule in the right lung", ["-effusion", "+nodule large right"]),
        ("No pneumothorax, heart is markedly enlarged", ["-pneumothorax", "+cardiomegaly large"]),
        ("No effusion, there is a nodule", ["-effusion", "+nodule"]),
        ("No large effusion, left nodule or consolidation", ["-effusion large", "-nodule left", "-consolidation"]),
        ("Effusion, pneumothorax and nodule are not seen", ["-effusion", "-pneumothorax", "-nodule"]),
        ("No consolidation, effusion, nodule", ["-consolidation", "-effusion", "-nodule"]),
        ("The heart is not enlarged, nodule", ["-cardiomegaly", "+nodule"]),
        ("consolidation not effusion", ["+consolidation", "-effusion"]),
        ("left and right effusions", ["+effusion both"]),
        ("Small left and large right effusions", ["+effusion small left", "+effusion large right"]),
        ("Left effusion right nodule", ["+effusion left", "+nodule right"]),
        ("Pleural effusion on the left. The effusion is small.", ["+effusion small left"]),
        (
            "The right lung is clear. Large left effusion.",
            ["-consolidation right", "-nodule right", "+effusion large left"],
        ),
        ("Both lungs are clear apart from a small nodule", ["-consolidation", "+nodule small"]),
        ("costophrenic angles are sharp", ["-effusion"]),
        ("No nodule but mildly enlarged heart", ["-nodule", "+cardiomegaly small"]),
        ("The heart is not enlarged", ["-cardiomegaly"]),
        ("no acute abnormality in the left lung", ["-consolidation left", "-nodule left"]),
        ("not normal", []),
        ("No left effusion. No effusion.", ["-effusion"]),
        ("", []),
    ],
)
def test_what_a_radiologist_types(text, said):
    assert shortly(text) == said
    assert read(text, CHEST).unknown == ()


def test_unknown_words_are_told_with_the_nearest_and_change_nothing():
    reading = read("large efusion, lingular nodule on teh left", CHEST)
    assert reading.unknown == (("efusion", "effusion"), ("lingular", ""), ("teh", ""))
    assert reading.mentions == (Mention("nodule", True, "large", "left"),)
    assert read("Mediastinum is normal. No osseous abnormality.", CHEST).mentions == (), "not all else is normal"
    assert read("nodule", ("effusion",)).mentions == ()
    assert dict(read("nodule", ("effusion",)).unknown).keys() == {"nodule"}


@patient
@given(st.text())
def test_any_text_can_be_read(text):
    reading = read(text, CHEST)
    assert all(one.finding in CHEST for one in reading.mentions)
    assert all(word in tokens(text) for word, _ in reading.unknown)


def test_tokens_are_words_stops_and_commas():
    assert tokens("Left-sided COVID-19 pneumonia, small.") == (
        "left",
        "sided",
        "covid",
        "19",
        "pneumonia",
        ",",
        "small",
        ".",
    )


def test_a_value_that_is_not_a_side_is_refused():
    with pytest.raises(CounterscanError, match=r"side='l' of effusion is not a side; use left, right, both"):
        Mention("effusion", side="l")


def test_words_of_side_and_zone_have_their_place_on_a_film():
    left = area_of([Mention("nodule", side="left")], 12, 8)
    assert left[:, 4:].all()  # the patient's left is on the right of the image
    assert not left[:, :4].any()
    upper = area_of([Mention("nodule", side="right", zone="upper")], 100, 8)
    rows = upper[:, 0].bool().tolist()
    assert rows == [zone_at((row + 0.5) / 100) == "upper" for row in range(100)]
    assert rows.count(True) == pytest.approx(100 * (LUNGS[0] + (LUNGS[1] - LUNGS[0]) / 3), abs=1)
    assert not upper[:, 4:].any()


def test_what_a_sentence_leaves_open_can_be_anywhere():
    nodule = Mention("nodule", side="left", zone="lower")
    two = area_of([nodule, Mention("effusion", side="right")], 12, 8)
    assert two[:, :4].all()
    assert not two[0, 4:].any()
    assert two[-1, 4:].all()
    for open_ in ([], [nodule, Mention("cardiomegaly")]):
        assert area_of(open_, 12, 8).all()
    assert area_of([Mention("effusion", side="both")], 12, 8).all()
