"""Who may ask the viewer: requests that name this machine, and uploads from its own pages."""

import hmac
import secrets
from typing import Any

from counterscan.listening import LOOPBACK
from counterscan.web.safety import HEADERS, App, Message, Receive, Send

OWN = ("none", "same-origin")  # what Sec-Fetch-Site says of a page's own requests, and of an address that was typed


class Door:
    """Wraps an ASGI app: HEADERS on every answer; where only this machine may ask, other names of it are refused.

    A page elsewhere can make its own name lead to 127.0.0.1 and so read what a browser is given there; the name that
    it asked for gives it away.
    """

    def __init__(self, app: App, host: str):
        self.app = app
        self.names = {*LOOPBACK, host} if host in LOOPBACK else None

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower() for name, _ in message["headers"]}
                more = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in own]
                message["headers"] = [*message["headers"], *more]
            await send(message)

        if self.names is not None and _named(scope) not in self.names:
            return await _refuse(dressed)
        await self.app(scope, receive, dressed)


class Token:
    """What a page of the viewer says with each upload; another site cannot read it."""

    def __init__(self) -> None:
        self.text = secrets.token_urlsafe(24)

    def fits(self, headers: Any) -> bool:
        """Does a request come from a page of this viewer?"""
        given = headers.get("x-csrf-token", "").encode()
        return hmac.compare_digest(given, self.text.encode()) and headers.get("sec-fetch-site", "none") in OWN


def _named(scope: Any) -> str:
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


async def _refuse(send: Send) -> None:
    body = b'{"detail":"this viewer answers its own machine only"}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})
