"""`counterscan serve`: explanations in the browser, and an upload box; see docs/viewer.md."""

import contextlib
import math
import threading
from collections.abc import AsyncIterator, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from counterscan.errors import CounterscanError, MissingExtra
from counterscan.listening import LOOPBACK, address, answer, open_port
from counterscan.pictures import DARK, HEAT
from counterscan.web.viewer_case import Cases
from counterscan.web.viewer_door import Door, Token
from counterscan.web.viewer_index import Archive, Query, Row
from counterscan.web.viewer_pictures import Kept, thumbnail, whole_case
from counterscan.web.viewer_uploads import Desk, Given, Refused

if TYPE_CHECKING:
    from fastapi import FastAPI

TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}
HEAVY = ("counterscan.report", "counterscan.metrics.masks", "counterscan.volumes.content")  # what a case needs


class Rooms:
    """What the routes share."""

    def __init__(self, folders: Sequence[Path], given: tuple[Given, ...], megabytes: int, upload: bool):
        self.archive = Archive(folders)
        self.archive.refresh()
        self.cases = Cases(self.archive)
        self.thumbnails = Kept()
        self.desk = Desk(self.archive, given, megabytes) if upload else None
        self.token = Token()

    def row(self, run: str, name: str) -> Row:
        """The explanation that a request names."""
        row = self.archive.row(run, name)
        if row is None:
            raise CounterscanError(f"there is no case {name!r} in this run; go back to the gallery")
        return row

    def told(self) -> dict[str, Any]:
        """What a page needs to begin."""
        self.archive.refresh()
        limits = {"megabytes": self.desk.most_bytes >> 20, "minutes": self.desk.keep / 60} if self.desk else None
        return {**self.archive.told(), "token": self.token.text, "upload": limits, "dark": DARK, "heat": HEAT}

    def thumbnail(self, row: Row) -> bytes:
        """The small pictures of a case."""
        folder = self.archive.folder(row.run)
        if folder is None:
            raise CounterscanError(f"{row.name} is gone")
        stamp = whole_case(folder.folder, row.name).stat().st_mtime_ns
        limit = self.cases.heat_limit(folder) if not row.changed else 1.0
        return self.thumbnails.get((row.run, row.name, stamp), lambda: thumbnail(folder.folder, row.name, limit))


def make_app(
    folders: Sequence[str | Path],
    *,
    given: tuple[Given, ...] = (),
    megabytes: int = 100,
    upload: bool = True,
    host: str = "127.0.0.1",
) -> Any:
    """The application over folders of explanations, an ASGI app.

    `given` are classifiers offered for uploads beside the shipped ones, `megabytes` the largest upload; with `host` a
    loopback address only requests that name this machine are answered. Raises CounterscanError for a folder without
    explanations, MissingExtra without FastAPI.
    """
    try:
        from fastapi import FastAPI
    except ImportError:
        raise MissingExtra("fastapi", "web") from None
    rooms = Rooms([Path(folder) for folder in folders], given, megabytes, upload)
    app = FastAPI(title="counterscan viewer", docs_url=None, redoc_url=None, lifespan=_life(rooms))
    _errors(app)
    _pages(app)
    _cases(app, rooms)
    if rooms.desk is not None:
        _uploads(app, rooms, rooms.desk)
    return Door(app, host)


def serve(folders: Sequence[Path], host: str, port: int, **settings: Any) -> None:
    """Serve until interrupted; say where, and warn where others can reach it."""
    app, line = make_app(folders, host=host, **settings), open_port(host, port)
    print(f"viewer: {address(line)} (Ctrl-C ends it)", flush=True)
    if host not in LOOPBACK:
        print(
            f"warning: whoever reaches {host}:{line.getsockname()[1]} sees these images"
            + (" and may upload scans" if settings.get("upload", True) else "")
            + "; there are no passwords and no encryption: put a proxy with both in front, or leave --host out",
            flush=True,
        )
    answer(app, line)


def _life(rooms: Rooms) -> Any:
    @contextlib.asynccontextmanager
    async def life(_: Any) -> AsyncIterator[None]:
        stop = threading.Event()
        threading.Thread(target=rooms.archive.read_on, args=(stop,), daemon=True).start()
        threading.Thread(target=_warm_up, args=(stop,), daemon=True).start()
        yield
        stop.set()
        if rooms.desk is not None:
            rooms.desk.close()

    return life


def _warm_up(stop: threading.Event) -> None:
    """Load what the first case needs while the gallery is looked at."""
    import importlib

    if not stop.wait(2.0):
        for name in HEAVY:
            importlib.import_module(name)


def _errors(app: "FastAPI") -> None:
    from fastapi import Request
    from fastapi.responses import JSONResponse

    @app.exception_handler(CounterscanError)
    async def told(_: Request, error: CounterscanError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, error.status if isinstance(error, Refused) else 404)


def _pages(app: "FastAPI") -> None:
    from fastapi.responses import Response

    home = resources.files("counterscan").joinpath("web/static")
    names = {path.name for path in home.iterdir() if path.name.startswith(("viewer", "base."))}

    def page(name: str) -> Response:
        if name not in names:
            raise CounterscanError("there is no such page")
        kind = TYPES.get(Path(name).suffix, "application/octet-stream")
        return Response(home.joinpath(name).read_bytes(), media_type=kind, headers={"Cache-Control": "no-cache"})

    @app.get("/", include_in_schema=False)
    def index() -> Response:
        return page("viewer.html")

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        return page(name)


def _cases(app: "FastAPI", rooms: Rooms) -> None:
    from fastapi import Query as Param
    from fastapi.responses import FileResponse, Response

    Number = Annotated[int, Param(ge=0, le=10**9)]

    @app.get("/api/archive")
    def archive() -> dict[str, Any]:
        return rooms.told()

    @app.get("/api/cases")
    def cases(
        run: str = "",
        state: str = "",
        label: str = "",
        split: str = "",
        text: str = "",
        column: str = "",
        low: float | None = None,
        high: float | None = None,
        sort: str = "name",
        down: bool = False,
        start: Number = 0,
        count: Annotated[int, Param(ge=1, le=240)] = 60,
        find: str = "",
        beside: str = "",
    ) -> dict[str, Any]:
        ends = (-math.inf if low is None else low, math.inf if high is None else high)
        rows = rooms.archive.ask(Query(run, state, label, split, text, column, *ends, sort, down))
        wanted = rooms.archive.row(beside, find) if find else None
        place = next((index for index, row in enumerate(rows) if row.key == wanted.key), -1) if wanted else -1
        return {
            "total": len(rows),
            "start": start,
            "place": place,
            "rows": [r.told() for r in rows[start : start + count]],
        }

    @app.get("/api/case/{run}/{name}")
    def case(run: str, name: str) -> dict[str, Any]:
        return rooms.cases.told(rooms.row(run, name))

    @app.get("/api/planes/{run}/{name}")
    def planes(
        run: str, name: str, index: Annotated[int | None, Param(alias="slice", ge=0, le=10**9)] = None
    ) -> Response:
        return Response(rooms.cases.planes(rooms.row(run, name), index), media_type="application/octet-stream")

    @app.get("/api/frames/{run}/{name}")
    def frames(run: str, name: str, index: Annotated[int, Param(alias="slice", ge=0, le=10**9)] = 0) -> Response:
        return Response(rooms.cases.frames(rooms.row(run, name), index), media_type="application/octet-stream")

    @app.get("/thumb/{run}/{name}")
    def thumb(run: str, name: str) -> Response:
        kept = {"Cache-Control": "private, max-age=600"}
        return Response(rooms.thumbnail(rooms.row(run, name)), media_type="image/webp", headers=kept)

    @app.get("/file/{run}/{name}/{what}")
    def file(run: str, name: str, what: str) -> FileResponse:
        path = rooms.cases.file(rooms.row(run, name), what)
        return FileResponse(path, media_type="application/octet-stream", filename=f"{name}.{path.name}")


def _uploads(app: "FastAPI", rooms: Rooms, desk: Desk) -> None:
    from fastapi import Request

    def known(token: str) -> Any:
        if token not in desk.jobs:
            raise CounterscanError("this upload is not known (any more); results are kept for a time only")
        return desk.jobs[token]

    def own(request: Request) -> None:
        if not rooms.token.fits(request.headers):
            raise Refused(403, "this request did not come from a page of the viewer; reload the page")

    @app.get("/api/offers")
    def offers() -> list[dict[str, Any]]:
        return [{name: one[name] for name in ("name", "classes", "targets", "methods")} for one in desk.offers()]

    @app.post("/api/jobs", status_code=201)
    async def start(request: Request, classifier: str, method: str, target: str) -> dict[str, Any]:
        from starlette.concurrency import run_in_threadpool

        own(request)
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > desk.most_bytes:
            raise Refused(413, f"the file is larger than {desk.most_bytes >> 20} MB, which is the limit")
        offer = await run_in_threadpool(desk.check, classifier, method, target)
        job = await desk.take(request.stream(), offer, method, target)
        return {"job": job.token, **job.told(rooms.archive)}

    @app.get("/api/jobs/{token}")
    def status(token: str) -> dict[str, Any]:
        return known(token).told(rooms.archive)

    @app.delete("/api/jobs/{token}", status_code=204)
    def cancel(request: Request, token: str) -> None:
        own(request)
        known(token)
        desk.cancel(token)
