"""Which method is said to be best, and how the plots are laid out, from lines whose figures are known."""

import pytest

from counterscan.bench.every.lines import Line
from counterscan.bench.every.plots import LETTER, ROW, Axis, scatter
from counterscan.bench.every.table import QUESTIONS, Table, best, black_box, markdown


def line(method, direction="removed", data="chest", black_box="works", **values):
    metrics = {name: {"value": value, "low": None, "high": None, "n": 4} for name, value in values.items()}
    result = {"metrics": metrics, "black_box": black_box, "images": f"{data} phantoms", "target": "normal", "n": 4}
    return Line(data, direction, method, "counterfactual", result)


LINES = [
    line("bold", judge_flip_rate=1.0, l1=0.2, auprc=0.2, black_box="needs gradients", cpu_seconds=1.0),
    line("shy", judge_flip_rate=0.3, l1=0.01, auprc=0.9, cpu_seconds=0.01),
    line("fair", judge_flip_rate=0.8, l1=0.1, auprc=0.5, cpu_seconds=0.1),
    Line("chest", "removed", "gone", absent="no prior"),
]
TABLE = Table({"command": "counterscan bench all"}, LINES)


def answers(table=TABLE):
    return {
        (one.metric, one.black_box, one.direction): [[line.method for line in lines] for lines in found]
        for one, found in best(table)
    }


def test_the_best_is_the_best_of_those_that_may_answer():
    found = answers()
    assert found["judge_flip_rate", False, "removed"] == [["bold"]]
    assert found["judge_flip_rate", True, "removed"] == [["fair"]], "bold needs gradients"
    assert found["l1", False, "removed"] == [["fair"]], "shy changes little and convinces nobody"
    assert found["auprc", False, "removed"] == [["shy"]]
    assert found["judge_flip_rate", False, "added"] == [[]]
    assert ("kernel_distance", False, "removed") not in found, "nobody has measured it"


def test_a_question_is_asked_of_every_kind_of_images():
    table = Table({"command": ""}, [*LINES, line("other", data="oct", auprc=0.1)])
    assert answers(table)["auprc", False, "removed"] == [["shy"], ["other"]]


def test_methods_that_are_alike_are_all_named():
    table = Table({"command": ""}, [line("a", auprc=0.9), line("b", auprc=0.9), line("c", auprc=0.8)])
    assert answers(table)["auprc", False, "removed"] == [["a", "b"]]
    assert "| Points at the lesion | a, b 0.90 |" in markdown(table)


def test_markdown_has_a_table_a_direction_and_says_who_failed():
    text = markdown(TABLE)
    assert "### chest, disease removed: chest phantoms, target `normal`, n=4" in text
    assert "| `gone` | absent: no prior |" in text
    assert "| `bold` | 1.00 | needs gradients |" in text
    assert "| Points at the lesion | shy 0.90 |" in text
    assert "disease added" not in text


def test_as_a_black_box_a_method_flips_works_or_needs_gradients():
    assert black_box(line("a", black_box_flip_rate=0.5)) == "0.50"
    assert black_box(line("a")) == "works"
    assert black_box(line("a", black_box="needs gradients")) == "needs gradients"


def test_questions_are_decided_by_figures_that_have_a_better_way():
    from counterscan.bench.every.table import COLUMNS

    assert all(COLUMNS[one.metric][1] in ("higher", "lower") for one in QUESTIONS)


@pytest.mark.parametrize("values", [[0.02], [0.5, 0.51], [-0.3, 4.0], [1200.0, 3.0]])
def test_an_axis_holds_its_values_and_has_round_ticks(values):
    axis = Axis.of(values, 40.0, 300.0)
    assert all(40 <= axis.place(value) <= 300 for value in values)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 8
    assert all(40 - 1e-6 <= tick["at"] <= 300 + 1e-6 for tick in ticks)


def test_an_axis_of_powers_of_ten_has_one_tick_a_power():
    axis = Axis.of([0.02, 30.0], 0.0, 100.0, log=True)
    assert [tick["text"] for tick in axis.ticks()] == ["0.01", "0.1", "1", "10", "100"]
    assert axis.place(1.0) == pytest.approx(50)
    assert len(Axis.of([1.0], 0.0, 100.0, log=True).ticks()) == 2


def test_names_in_a_plot_do_not_lie_on_one_another():
    crowd = [line(f"method-{index}", auprc=0.5 + index / 1000, cpu_seconds=1.0) for index in range(9)]
    plot = scatter("chest", crowd, "cpu_seconds", "auprc", log=True)
    dots = plot["dots"]
    for index, one in enumerate(dots):
        for other in dots[index + 1 :]:
            beside = abs(one["x"] - other["x"]) > 8 + LETTER * len(one["name"])
            assert beside or abs(one["text"] - other["text"]) >= ROW - 1e-6
    assert scatter("chest", crowd[:1], "cpu_seconds", "auprc") is None
    assert scatter("chest", LINES, "kernel_distance", "judge_flip_rate") is None
