"""The study in the browser: readers enter by a personal link, answer, stop and go on; the truth stays here."""

import asyncio
import ipaddress
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, cast

from counterscan.errors import CounterscanError, MissingExtra

try:
    import itsdangerous  # noqa: F401  (named here, so that one line says what to install)
    import uvicorn
    from fastapi import APIRouter, Cookie, Depends, FastAPI, Header, Request
    from fastapi.concurrency import run_in_threadpool
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse, JSONResponse, Response
    from sqlalchemy.exc import SQLAlchemyError
    from starlette.exceptions import HTTPException
except ModuleNotFoundError as error:
    raise MissingExtra(str(error.name), "web") from error

from counterscan.study.store import Store
from counterscan.templating import template
from counterscan.web.safety import Safe
from counterscan.web.study_desk import Desk, Given, Refused, Remark
from counterscan.web.study_keys import OWNER, READER, Keys, Session, reader_of, secret_of
from counterscan.web.study_owner import owner_page

LARGEST = 32 * 1024  # bytes of a request
PORTION = 4096  # bytes: every JSON answer is filled with spaces to a multiple of it
BEAT = 0.04  # seconds: pictures leave at multiples of it, so that the time to read one says nothing
STATIC = {"base.css": "text/css", "study.css": "text/css", "study.svg": "image/svg+xml"}
STATIC |= dict.fromkeys(("study.js", "study_pictures.js", "study_queue.js", "study_pages.js"), "text/javascript")
REFUSALS: Any = {
    status: {"description": why}
    for status, why in {
        401: "no session",
        403: "not from the study's own page",
        404: "not there for this reader",
        409: "out of turn",
        410: "time over",
        413: "too large",
        503: "the database does not answer",
    }.items()
}

routes = APIRouter(responses=REFUSALS)


class Padded(JSONResponse):
    """JSON whose length says nothing: filled with spaces to a multiple of PORTION."""

    def render(self, content: Any) -> bytes:
        """The bytes of `content`."""
        body = super().render(content)
        return body.ljust(-(-len(body) // PORTION) * PORTION)


def make_app(folder: Path, database: str = "", secret: bytes = b"") -> FastAPI:
    """The app that serves the study in `folder`, its answers in `database` (a URL; `answers.db` in the folder if "").

    `secret` signs sessions and names pictures; unless given it is kept in the folder. Raises CounterscanError.
    """
    folder = Path(folder)
    keys = Keys(secret or secret_of(folder))
    app = FastAPI(title="counterscan study", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")
    app.state.desk = Desk(folder, Store.of(folder, database), keys)
    app.include_router(routes)
    app.add_middleware(cast(Any, Safe), limit=LARGEST)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(SQLAlchemyError, _not_kept)
    return app


def serve(
    folder: Path, host: str = "127.0.0.1", port: int = 8765, database: str = "", say: Callable[[str], None] = print
) -> None:
    """Serve the study in `folder` until it is stopped; `say` is told the addresses. Raises CounterscanError."""
    app = make_app(folder, database)
    shown = f"[{host}]" if ":" in host else host
    say(f"study {app.state.desk.study.title!r} at http://{shown}:{port}/ (stop with Ctrl-C; answers are kept)")
    say(f"owner's page, not for readers: http://{shown}:{port}/owner/enter/{app.state.desk.keys.owner_token()}")
    if not _is_loopback(host):
        say(
            f"OPEN TO THE NETWORK: --host {host} is reachable from other machines and speaks plain HTTP; put a proxy "
            "with TLS in front of it before a reader's link leaves this machine"
        )
    config = uvicorn.Config(app, host, port, log_level="warning", access_log=False, server_header=False)
    try:
        uvicorn.Server(config).run()
    except SystemExit as error:
        raise CounterscanError(f"port {port} of {host} cannot be used; choose another with --port") from error


# What a request depends on is async although it waits for nothing: otherwise each would visit a thread of its own.
async def desk_of(request: Request) -> Desk:
    """The desk of the app that is asked."""
    return request.app.state.desk


Served = Annotated[Desk, Depends(desk_of)]


async def reader_session(desk: Served, counterscan_reader: Annotated[str, Cookie()] = "") -> Session:
    """The session of the reader who asks; raises Refused without one."""
    session = desk.keys.session(READER, counterscan_reader)
    if session is None:
        raise Refused(401, "open your personal link again to go on; nothing is lost")
    return session


Reader = Annotated[Session, Depends(reader_session)]


async def own_page(desk: Served, session: Reader, x_study_key: Annotated[str, Header()] = "") -> None:
    """Raise Refused for a change that does not come from the page that the session was given."""
    if not desk.keys.is_csrf(session, x_study_key):
        raise Refused(403, "this did not come from the study's page; reload it")


async def owner_session(desk: Served, counterscan_owner: Annotated[str, Cookie()] = "") -> None:
    """Raise Refused unless the owner asks, in words that do not say that there is anything here."""
    if desk.keys.session(OWNER, counterscan_owner) is None:
        raise Refused(404, "there is nothing here")


@routes.get("/", response_class=HTMLResponse)
def page() -> HTMLResponse:
    """The page that readers work in; it asks for all else itself."""
    return HTMLResponse(template("study.html"))


@routes.get("/enter/{token}", response_class=HTMLResponse)
def enter(token: str, desk: Served, request: Request) -> HTMLResponse:
    """A reader's personal link: gives a session, and sends the browser on."""
    name = reader_of(token, desk.study.readers)
    if not name:
        return HTMLResponse(template("study_unknown.html"), 404)
    session = Session.new(name)
    desk.store.note(name, "entered", session.key)
    return _entered(READER, desk.keys.cookie(READER, session), "/", request)


@routes.get("/static/{name}")
def static(name: str) -> Response:
    """One of the few files that the pages need."""
    if name not in STATIC:
        raise Refused(404, "there is nothing here")
    return Response((files("counterscan.web") / "static" / name).read_bytes(), media_type=STATIC[name])


@routes.get("/api/state", response_class=Padded)
def state(desk: Served, session: Reader) -> Padded:
    """Where the reader is, and what is needed to go on."""
    return Padded(desk.state(session))


@routes.post("/api/answers", response_class=Padded, dependencies=[Depends(own_page)])
def answer(given: Given, desk: Served, session: Reader) -> Padded:
    """Keep an answer; this is only said once it is on disk. Sent again with the same nonce, it is one answer."""
    return Padded(desk.take(session, given))


@routes.post("/api/remarks", response_class=Padded, dependencies=[Depends(own_page)])
def remark(given: Remark, desk: Served, session: Reader) -> Padded:
    """Keep what a reader says beside the answers, once each."""
    desk.remark(session, given)
    return Padded(desk.state(session))


@routes.get("/api/pictures/{name}", responses={200: {"content": {"image/png": {}}}})
async def picture(name: str, desk: Served, session: Reader) -> Response:
    """A picture of the trial that the reader is at, or of one shortly after it."""
    asked = time.monotonic()
    content = await run_in_threadpool(desk.picture, session, name)
    await asyncio.sleep(BEAT - (time.monotonic() - asked) % BEAT)
    return Response(content, media_type="image/png")


@routes.get("/owner/enter/{token}", response_class=HTMLResponse)
def enter_as_owner(token: str, desk: Served, request: Request) -> HTMLResponse:
    """The owner's link: gives a session of its own kind."""
    if not desk.keys.is_owner(token):
        raise Refused(404, "there is nothing here")
    return _entered(OWNER, desk.keys.cookie(OWNER, Session.new(OWNER)), "/owner", request)


@routes.get("/owner", response_class=HTMLResponse, dependencies=[Depends(owner_session)])
def owner(desk: Served) -> HTMLResponse:
    """How far the readers are."""
    return HTMLResponse(owner_page(desk))


@routes.get("/owner/answers.jsonl", dependencies=[Depends(owner_session)])
def answers(desk: Served) -> Response:
    """Every answer, one JSON object a line, in the order they came in."""
    lines = "".join(f"{one.model_dump_json()}\n" for one in desk.store.answers())
    return Response(lines, media_type="application/jsonl", headers={"content-disposition": "attachment"})


def _entered(role: str, cookie: str, home: str, request: Request) -> HTMLResponse:
    """A page that goes on by itself: a redirection would leave the new cookie behind where a mail held the link."""
    answer = HTMLResponse(template("study_enter.html").replace("HOME", home))
    secure = request.url.scheme == "https"
    answer.set_cookie(f"counterscan_{role}", cookie, httponly=True, samesite="strict", secure=secure, path="/")
    return answer


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return Padded({"detail": str(error)}, error.status)


def _invalid(request: Request, error: Exception) -> Response:
    """What is wrong with a request, without saying back what it held."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return Padded({"detail": f"{'.'.join(map(str, first['loc']))}: {first['msg']}"}, 422)


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Padded({"detail": str(error.detail)}, error.status_code, headers=error.headers)


def _not_kept(request: Request, error: Exception) -> Response:
    return Padded({"detail": "this could not be kept just now; it will be sent again"}, 503)
