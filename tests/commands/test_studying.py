"""The commands of a study: what is typed becomes a folder, links and a size; mistakes are one line."""

import pytest
from typer.testing import CliRunner

from counterscan.cli import app
from counterscan.study.records import Study


@pytest.fixture
def run(tmp_path, monkeypatch):
    from PIL import Image

    for name in ("real", "made"):
        (tmp_path / name).mkdir()
        for one in range(30):
            Image.new("L", (16, 16), 5 * one).save(tmp_path / name / f"{name}{one}.png")
    monkeypatch.chdir(tmp_path)
    return lambda text: CliRunner().invoke(app, ["study", *text.split()])


NEW = "new out --real real --synthetic ours=made --task forced-choice --cases 6 --readers ann,bob --seed 3"


def test_a_study_is_made_and_its_links_are_printed(run, tmp_path):
    answer = run(NEW + " --address https://x.org/")
    assert answer.exit_code == 0, answer.output
    assert Study.load(tmp_path / "out").names == ("ann", "bob")
    assert "part 1: forced-choice, 6 cases" in answer.output
    assert "ann: https://x.org/enter/" in answer.output
    again = run("links out --new ann")
    assert again.output.count("/enter/") == 2
    assert run(NEW).exit_code == 1


def test_a_dry_run_writes_nothing(run, tmp_path):
    assert run(NEW + " --dry-run").exit_code == 0
    assert not (tmp_path / "out").exists()


def test_a_description_makes_several_parts(run, tmp_path):
    (tmp_path / "s.toml").write_text(
        'readers = ["ann"]\nreal = "real"\nsynthetic = { ours = "made" }\n'
        '[[parts]]\ntask = "realism"\ncases = 4\n[[parts]]\ntask = "forced-choice"\ncases = 4\n'
    )
    assert run("new out --from s.toml --readers cy,di").exit_code == 0
    study = Study.load(tmp_path / "out")
    assert ([part.task for part in study.parts], study.names) == (["realism", "forced-choice"], ("cy", "di"))
    assert "--cases says what a part is" in run("new two --from s.toml --cases 4").output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (NEW.replace(" --readers ann,bob", ""), "give --readers"),
        (NEW.replace(" --task forced-choice", ""), "give --task"),
        (NEW + " --synthetic ours=real", "called 'ours'"),
        (NEW.replace("ours=made", "ours=nowhere"), "nowhere does not exist"),
        ("analyse nowhere", "counterscan study new"),
        ("power --share 0.6 --readers x", "cannot read --readers"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_cure(run, text, message):
    answer = run(text)
    assert answer.exit_code == 1
    assert message in answer.output
    assert answer.output.count("\n") == 1


def test_a_size_is_told_for_one_reader_and_for_several(run):
    answer = run("power --share 0.6 --readers 5 --cases 100")
    assert "210 independent trials" in answer.output
    assert answer.exit_code == 0
