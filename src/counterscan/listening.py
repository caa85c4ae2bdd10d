"""Where a web app listens, and what a person is told of it."""

import socket
from typing import Any

from counterscan.errors import CounterscanError, MissingExtra

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def open_port(host: str, port: int) -> socket.socket:
    """A socket that listens there (0: wherever is free); CounterscanError where it cannot."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise CounterscanError(f"cannot listen on {host}:{port}: {error}; give another --port or --host") from None


def answer(app: Any, line: socket.socket) -> None:
    """Answer on a socket until the process is told to end. Raises MissingExtra without uvicorn."""
    try:
        import uvicorn
    except ImportError:
        raise MissingExtra("uvicorn", "web") from None
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=3
    )
    uvicorn.Server(config).run(sockets=[line])


def address(line: socket.socket) -> str:
    """What to type into a browser."""
    host, port = line.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
