"""The store: one answer once, on disk before it is said, never changed, in SQLite and in a real PostgreSQL."""

import contextlib
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sql = pytest.importorskip("sqlalchemy")

from counterscan.errors import CounterscanError  # noqa: E402
from counterscan.study.records import Answer  # noqa: E402
from counterscan.study.store import Store, now  # noqa: E402


def answer(trial="t1", nonce="n1", reader="ada", **facts):
    return Answer(reader=reader, trial=trial, nonce=nonce, choice="real", confidence=3, received=now(), **facts)


@pytest.fixture(scope="session")
def postgres():
    """The URL of an empty PostgreSQL, which runs as a user of its own, because it refuses to run as root."""
    binary = shutil.which("postgres")
    if binary is None:
        pytest.skip("postgres is not installed")
    pytest.importorskip("psycopg")
    user = None
    if os.getuid() == 0:
        import pwd

        try:
            user = pwd.getpwnam("postgres").pw_uid
        except KeyError:
            user = pwd.getpwnam("nobody").pw_uid
    tools = Path(binary).resolve().parent
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="counterscan-pg-"))
    if user is not None:
        os.chown(folder, user, -1)
    env = {"LC_ALL": "C", "PATH": os.environ["PATH"]}
    make = [tools / "initdb", "-D", folder / "data", "-A", "trust", "-U", "study", "-N"]
    if subprocess.run(make, user=user, env=env, cwd="/", capture_output=True).returncode:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip("a PostgreSQL cluster cannot be made here")
    run = [binary, "-D", folder / "data", "-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1", "-F"]
    server = subprocess.Popen(run, user=user, env=env, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"postgresql://study@127.0.0.1:{port}/postgres"
    try:
        for _ in range(100):
            with contextlib.suppress(CounterscanError):
                Store(url).close()
                break
            time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgres"])
def store(request, tmp_path):
    """An empty store of each kind."""
    if request.param == "sqlite":
        made = Store.of(tmp_path)
    else:
        url = request.getfixturevalue("postgres")
        text = {"client_encoding": "utf8"}
        driver = url.replace("postgresql:", "postgresql+psycopg:")
        admin = sql.create_engine(driver, isolation_level="AUTOCOMMIT", connect_args=text)
        name = f"s{os.urandom(4).hex()}"
        with admin.connect() as connection:
            connection.execute(sql.text(f"CREATE DATABASE {name}"))
        admin.dispose()
        made = Store(url.removesuffix("postgres") + name)
    yield made
    made.close()


def test_an_answer_comes_back_as_it_went_in(store):
    given = answer(text="läßt sich\nnicht sagen", reasons=("texture",), rt_ms=1234, tools={"zoom": 2}, session="s")
    assert store.add(given)
    assert store.answers() == store.answers("ada") == [given]
    assert store.answers("ben") == []


def test_the_same_nonce_or_trial_is_one_answer(store):
    assert store.add(answer())
    assert not store.add(answer())
    assert not store.add(answer(nonce="n2"))
    assert not store.add(answer(trial="t2"))
    assert store.add(answer(reader="ben"))
    assert [one.nonce for one in store.answers("ada")] == ["n1"]
    assert [said.trial for said in store.progress("ada")] == ["t1"]


def test_a_note_is_kept_once(store):
    assert store.note("ada", "about", facts={"years": "7"})
    assert not store.note("ada", "about", facts={"years": "8"})
    assert [(note.kind, note.facts) for note in store.notes("ada")] == [("about", {"years": "7"})]
    assert store.notes("ada", "begin") == []


@pytest.mark.parametrize("change", ["UPDATE answers SET body = ''", "DELETE FROM answers", "DELETE FROM notes"])
def test_nothing_that_was_kept_can_be_changed(store, change):
    store.add(answer())
    store.note("ada", "about")
    with pytest.raises(sql.exc.DBAPIError, match="only grow"), store._engine.begin() as connection:
        connection.execute(sql.text(change))
    assert len(store.answers()) == 1


def rewritten(folder, body):
    """Change what the file holds, behind the program's back."""
    with sqlite3.connect(folder / "answers.db") as line:
        line.execute("DROP TRIGGER answers_UPDATE")
        line.execute("UPDATE answers SET body = ? WHERE number = 2", [body])
    line.close()


@pytest.mark.parametrize(
    "change", [("real", "reel"), ('"confidence":3', '"confidence":4'), ('"sha256"', '"sha257"'), ("}", "")]
)
def test_an_answer_that_is_not_as_it_was_kept_is_named(tmp_path, change):
    store = Store.of(tmp_path)
    store.add(answer())
    store.add(answer(trial="t2", nonce="n2"))
    with sqlite3.connect(tmp_path / "answers.db") as line:
        ((body,),) = line.execute("SELECT body FROM answers WHERE number = 2")
    line.close()
    rewritten(tmp_path, body.replace(*change))
    with pytest.raises(CounterscanError, match=r"answers.db is damaged \(answer 2, of ada, is not as it was kept\)"):
        store.answers()


def test_answers_that_were_kept_without_a_seal_are_read(tmp_path):
    store = Store.of(tmp_path)
    wanted = [answer(), answer(trial="t2", nonce="n2")]
    for one in wanted:
        store.add(one)
    rewritten(tmp_path, wanted[1].model_dump_json())
    assert store.answers() == wanted


def test_a_file_whose_pages_do_not_fit_is_told_of(tmp_path):
    store = Store.of(tmp_path)
    for at in range(60):
        store.add(answer(trial=f"t{at}", nonce=f"n{at}", text="x" * 400))
    store.close()
    path = tmp_path / "answers.db"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CounterscanError, match=r"(is damaged|cannot be used).*malformed"):
        Store.of(tmp_path).answers()


def test_of_many_at_once_each_is_kept_once(store):
    wanted = [answer(trial=f"t{at}", nonce=f"n{at}") for at in range(40)] * 3
    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(store.add, wanted))
    assert sum(kept) == 40
    assert sorted(one.trial for one in store.answers()) == sorted({one.trial for one in wanted})


def test_a_store_holds_one_study(store):
    store.claim("one")
    store.claim("one")
    with pytest.raises(CounterscanError, match=r"holds the study one, not two; .*--database"):
        store.claim("two")


def test_sqlite_writes_ahead_and_waits_for_the_disk(tmp_path):
    store = Store.of(tmp_path)
    with store._engine.connect() as connection:
        assert connection.execute(sql.text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(sql.text("PRAGMA synchronous")).scalar() == 2


def test_what_was_said_to_be_kept_outlives_a_kill(tmp_path):
    code = (
        "import sys, os\nfrom counterscan.study.store import Store, now\nfrom counterscan.study.records import Answer\n"
        "store = Store.of(sys.argv[1])\n"
        "for at in range(10**6):\n"
        "    store.add(Answer(reader='ada', trial=f't{at}', nonce=f'n{at}', received=now())); print(at, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
    said = [int(process.stdout.readline()) for _ in range(20)]
    process.kill()
    said += [int(line) for line in process.stdout.read().split("\n")[:-1] if line]
    process.wait()
    kept = [one.trial for one in Store.of(tmp_path).answers()]
    assert len(kept) == len(set(kept))
    assert {f"t{at}" for at in said} <= set(kept)


def test_a_database_of_another_form_is_refused(tmp_path):
    Store.of(tmp_path).close()
    with sqlite3.connect(tmp_path / "answers.db") as connection:
        connection.execute("UPDATE about SET value = '99' WHERE name = 'version'")
    with pytest.raises(CounterscanError, match="form 99"):
        Store.of(tmp_path)


@pytest.mark.parametrize(
    "url", ["nonsense", "oracle+none://x", "sqlite:////nowhere/at/all.db", "postgresql://me:secret@127.0.0.1:1/x"]
)
def test_an_unusable_database_is_one_line_without_its_password(url):
    with pytest.raises(CounterscanError, match="give sqlite:///FILE") as told:
        Store(url)
    assert "secret" not in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("value", ["NULL", "'{'", "CAST(x'80' AS TEXT)"])
def test_a_damaged_note_is_refused_in_one_line(tmp_path, value):
    store = Store.of(tmp_path)
    store.note("ada", "entered", "1", {"browser": "none"})
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "answers.db")) as line, line:
        line.execute("DROP TRIGGER notes_UPDATE")
        line.execute("PRAGMA writable_schema = ON")
        line.execute("UPDATE sqlite_schema SET sql = replace(sql, 'facts TEXT NOT NULL', 'facts TEXT')")
    with contextlib.closing(sqlite3.connect(tmp_path / "answers.db")) as line, line:
        line.execute(f"UPDATE notes SET facts = {value}")
    with pytest.raises(CounterscanError, match=r"is damaged \(.*restore it from a copy") as error:
        Store.of(tmp_path).notes()
    assert "\n" not in str(error.value)
