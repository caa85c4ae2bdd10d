"""What readers said, kept: each answer once, on disk before it is acknowledged, and never changed afterwards.

SQLite in WAL mode with synchronous=FULL by default, PostgreSQL by URL where several sites read one study. Triggers in
the database refuse UPDATE and DELETE, so that the record of a study only grows, whoever opens the file.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from counterscan.errors import CounterscanError, MissingExtra
from counterscan.study.records import Answer

try:
    import sqlalchemy as sql
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.exc import ArgumentError, DBAPIError
except ModuleNotFoundError as error:
    raise MissingExtra("sqlalchemy", "web") from error

VERSION = "1"
PATIENCE = 30_000  # milliseconds to wait for another process's write to the same file
DAMAGED = ("malformed", "decode")  # SQLite's words for pages that do not fit together, and for text that is none
SEAL = re.compile(r'\{"sha256":"([0-9a-f]{64})",')  # what the body of an answer begins with
CURE = "give sqlite:///FILE on a local disk, or postgresql://USER:PASSWORD@HOST/NAME"
TABLES = sql.MetaData()
ABOUT = sql.Table(
    "about", TABLES, sql.Column("name", sql.String(40), primary_key=True), sql.Column("value", sql.String(200))
)
ANSWERS = sql.Table(
    "answers",
    TABLES,
    sql.Column("number", sql.Integer, primary_key=True, autoincrement=True),
    sql.Column("reader", sql.String(200), nullable=False),
    sql.Column("trial", sql.String(80), nullable=False),
    sql.Column("nonce", sql.String(80), nullable=False),
    sql.Column("received", sql.String(40), nullable=False),
    sql.Column("body", sql.Text, nullable=False),
    sql.UniqueConstraint("reader", "trial"),
    sql.UniqueConstraint("reader", "nonce"),
)
NOTES = sql.Table(
    "notes",
    TABLES,
    sql.Column("number", sql.Integer, primary_key=True, autoincrement=True),
    sql.Column("reader", sql.String(200), nullable=False),
    sql.Column("kind", sql.String(40), nullable=False),
    sql.Column("item", sql.String(80), nullable=False),
    sql.Column("received", sql.String(40), nullable=False),
    sql.Column("facts", sql.Text, nullable=False),
    sql.UniqueConstraint("reader", "kind", "item"),
)
SQLITE_GUARD = (
    "CREATE TRIGGER {table}_{what} BEFORE {what} ON {table} BEGIN SELECT RAISE(ABORT, '{table} only grow'); END"
)
POSTGRES_GUARD = """CREATE OR REPLACE FUNCTION {table}_only_grow() RETURNS trigger AS
 $$ BEGIN RAISE EXCEPTION '{table} only grow'; END $$ LANGUAGE plpgsql;
CREATE TRIGGER {table}_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} EXECUTE FUNCTION {table}_only_grow();"""
INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
for _table in (ANSWERS, NOTES):
    for _what in ("UPDATE", "DELETE"):
        _guard = sql.DDL(SQLITE_GUARD.format(table=_table.name, what=_what))
        sql.event.listen(_table, "after_create", _guard.execute_if(dialect="sqlite"))
    _guard = sql.DDL(POSTGRES_GUARD.format(table=_table.name))
    sql.event.listen(_table, "after_create", _guard.execute_if(dialect="postgresql"))


@dataclass(frozen=True)
class Note:
    """What happened beside the answers: `kind` (entered, begin, about, feedback, shown, comment), and about what."""

    reader: str
    kind: str
    item: str
    received: str
    facts: dict[str, Any]


@dataclass(frozen=True)
class Said:
    """That a trial was answered: what is needed to go on, without the answer."""

    trial: str
    nonce: str
    received: str


@dataclass
class _Row:
    """A row on its way to the disk: `kept` once it is there, False where there was one like it, or why it failed."""

    statement: Any
    kept: bool | None = None
    failed: list[BaseException] = field(default_factory=list)


class Store:
    """The answers and notes of one study at `url`: `sqlite:///PATH`, or `postgresql://USER:PASSWORD@HOST/NAME`.

    Safe from any number of threads, and with PostgreSQL from any number of servers. Raises CounterscanError where the
    database cannot be opened, or was made by a version that is not known.
    """

    def __init__(self, url: str):
        self._writing, self._lining_up = threading.Lock(), threading.Lock()
        self._rows_waiting: list[_Row] = []
        try:
            self._engine = _engine(url)
            if self._engine.dialect.name not in INSERT:
                raise ArgumentError(f"{self._engine.dialect.name} is not among {', '.join(INSERT)}")
            sql.event.listen(self._engine, "connect", _careful)
            self._create()
        except (ArgumentError, ModuleNotFoundError, DBAPIError, UnicodeDecodeError) as error:
            reason = str(getattr(error, "orig", None) or error).split("\n")[0]
            raise CounterscanError(f"the database {_without_password(url)} cannot be used: {reason}; {CURE}") from error

    @classmethod
    def of(cls, folder: Path, url: str = "") -> "Store":
        """The store at `url`, or the one that a study folder has unless another is asked for: `answers.db`."""
        return cls(url or f"sqlite:///{(Path(folder) / 'answers.db').resolve()}")

    def add(self, answer: Answer) -> bool:
        """Keep an answer, and return once it is durable: False where its nonce or its trial is known already."""
        row = {name: getattr(answer, name) for name in ("reader", "trial", "nonce", "received")}
        return self._insert(ANSWERS, {**row, "body": _sealed(answer)})

    def note(self, reader: str, kind: str, item: str = "", facts: dict[str, Any] | None = None) -> bool:
        """Keep what happened beside the answers, once for each `kind` and `item`: False where it is known."""
        row = {"reader": reader, "kind": kind, "item": item, "received": now(), "facts": json.dumps(facts or {})}
        return self._insert(NOTES, row)

    def answers(self, reader: str = "") -> list[Answer]:
        """All answers in the order they came in, or those of one reader; CounterscanError where one is damaged."""
        return [self._opened(row) for row in self._rows(ANSWERS, reader)]

    def notes(self, reader: str = "", kind: str = "") -> list[Note]:
        """All notes in the order they came in, or those of one reader or kind."""
        rows = (row for row in self._rows(NOTES, reader) if kind in ("", row.kind))
        return [self._noted(row) for row in rows]

    def progress(self, reader: str) -> tuple[Said, ...]:
        """Which trials a reader has answered, in the order the answers came in."""
        columns = (ANSWERS.c.trial, ANSWERS.c.nonce, ANSWERS.c.received)
        query = sql.select(*columns).where(ANSWERS.c.reader == reader).order_by(ANSWERS.c.number)
        return tuple(Said(*row) for row in self._read(query))

    def claim(self, study: str) -> None:
        """Say that this database holds the study with the id `study`; raises CounterscanError if it holds another."""
        with self._transaction() as connection:
            holds = self._said(connection, "study")
            if not holds:
                connection.execute(sql.insert(ABOUT).values(name="study", value=study))
        if holds not in ("", study):
            raise CounterscanError(
                f"the database {_without_password(self._engine.url)} holds the study {holds}, not {study}; "
                "give each study a database of its own (--database)"
            )

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def _insert(self, table: sql.Table, row: dict[str, str]) -> bool:
        """Whether the row is new; it is on disk when this returns.

        Rows that come while others are being written share the next transaction, so that fifty readers wait for the
        disk twice, not fifty times.
        """
        insert = INSERT[self._engine.dialect.name](table).values(**row)
        mine = _Row(insert.on_conflict_do_nothing().returning(table.c.number))
        with self._lining_up:
            self._rows_waiting.append(mine)
        with self._writing:
            if mine.kept is None and not mine.failed:
                self._write()
        if mine.failed:
            raise mine.failed[0]
        return bool(mine.kept)

    def _write(self) -> None:
        """Put all that waits on disk in one transaction: all of it, or none."""
        with self._lining_up:
            rows, self._rows_waiting = self._rows_waiting, []
        try:
            with self._engine.begin() as connection:
                fresh = [connection.execute(row.statement).first() is not None for row in rows]
        except BaseException as error:
            for row in rows:
                row.failed.append(error)
            return
        for row, kept in zip(rows, fresh, strict=True):
            row.kept = kept

    def _rows(self, table: sql.Table, reader: str) -> list[sql.Row]:
        query = sql.select(table).order_by(table.c.number)
        return self._read(query.where(table.c.reader == reader) if reader else query)

    def _read(self, query: Any) -> list[sql.Row]:
        try:
            with self._engine.connect() as connection:
                return list(connection.execute(query))
        except DBAPIError as error:
            if not any(word in str(error.orig) for word in DAMAGED):
                raise
            raise self._damaged(f"it is {error.orig}") from error

    def _opened(self, row: sql.Row) -> Answer:
        """The answer of a row; those that were kept before there were seals have none."""
        body = str(row.body)
        seal = SEAL.match(body)
        text = "{" + body[seal.end() :] if seal else body
        try:
            answer = Answer.model_validate_json(text)
        except ValidationError:
            answer = None
        if answer is None or (seal and seal[1] != _digest(text)):
            raise self._damaged(f"answer {row.number}, of {row.reader}, is not as it was kept")
        return answer

    def _noted(self, row: sql.Row) -> Note:
        try:
            return Note(row.reader, row.kind, row.item, row.received, json.loads(row.facts))
        except (ValueError, TypeError, RecursionError):
            raise self._damaged(f"note {row.number}, of {row.reader}, is not as it was kept") from None

    def _damaged(self, what: str) -> CounterscanError:
        return CounterscanError(
            f"the database {_without_password(self._engine.url)} is damaged ({what}); restore it from a copy, or "
            "analyse answers that were saved from the owner's page (--answers)"
        )

    @contextmanager
    def _transaction(self) -> Iterator[sql.Connection]:
        with self._writing, self._engine.begin() as connection:
            yield connection

    def _create(self) -> None:
        with self._transaction() as connection:
            if connection.dialect.name == "postgresql":  # two servers that start at once make the tables once
                connection.execute(sql.text("SELECT pg_advisory_xact_lock(20109975)"))
            TABLES.create_all(connection)
            version = self._said(connection, "version")
            if not version:
                connection.execute(sql.insert(ABOUT).values(name="version", value=VERSION))
        if version not in ("", VERSION):
            raise CounterscanError(
                f"the database {_without_password(self._engine.url)} has answers of form {version}, this version of "
                f"counterscan knows {VERSION}; install the version that made it"
            )

    def _said(self, connection: sql.Connection, name: str) -> str:
        return connection.execute(sql.select(ABOUT.c.value).where(ABOUT.c.name == name)).scalar() or ""


def _sealed(answer: Answer) -> str:
    """The answer as JSON, with the digest of all the rest of it as the first key."""
    text = answer.model_dump_json()
    return f'{{"sha256":"{_digest(text)}",{text[1:]}'


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def now() -> str:
    """The time in UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _careful(connection: Any, _record: Any) -> None:
    """Tell each connection that a commit is on disk when it returns."""
    cursor = connection.cursor()
    if type(connection).__module__.startswith("sqlite3"):
        cursor.execute(f"PRAGMA busy_timeout={PATIENCE}")
        mode = cursor.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        cursor.execute("PRAGMA synchronous=FULL")
        if mode not in ("wal", "memory"):
            raise CounterscanError(f"SQLite cannot write ahead in this place (mode {mode}); {CURE}")
    else:
        cursor.execute("SET synchronous_commit = on")
        connection.commit()
    cursor.close()


def _engine(url: str) -> sql.Engine:
    if not url.startswith(("postgresql://", "postgres://")):
        return sql.create_engine(url)
    text = {"client_encoding": "utf8"}  # a cluster made without a locale would answer bytes
    return sql.create_engine("postgresql+psycopg://" + url.split("://", 1)[1], connect_args=text)


def _without_password(url: Any) -> str:
    try:
        return sql.make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "given"
