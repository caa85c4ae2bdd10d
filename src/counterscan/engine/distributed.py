"""The engine for many machines, which is Ray's; and which engine a name stands for.

A cluster that is started here listens on this machine alone and asks for a token that it makes up; one that is there
already (`address`) has its owner's rules. Ray starts an actor again whose process is lost, and asks it again.
"""

import os
import secrets
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from counterscan.engine.local import HERE, Workers, share_of_threads, use_threads
from counterscan.engine.work import TRIES, Engine, Hands, R, T, Work, one_line
from counterscan.errors import CounterscanError, MissingExtra, check_one_of

ENGINES = ("local", "ray")
STORE = 100 * 2**20  # bytes of shared memory for what goes from one process to another: here a few kB
LOOPBACK = ("127.0.0.1", "::1")
QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}  # nobody hears of a hospital's jobs
CLOSED = {"RAY_AUTH_MODE": "token", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # the second: 127.0.0.1 on any system


def engine_of(name: str, workers: int = 1, address: str = "") -> Engine:
    """The engine called `name` (one of `ENGINES`) with so many workers; at `address` for a cluster that is there."""
    check_one_of("--engine", name, ENGINES)
    if name == "ray":
        return Ray(workers, address)
    if address:
        raise CounterscanError(f"--address {address} is for a cluster; add --engine ray")
    return Workers(workers) if workers > 1 else HERE


@dataclass(frozen=True)
class Ray:
    """`count` actors, a core each, on a cluster of this machine, or on the one at `address` (`auto`, or host:port)."""

    count: int
    address: str = ""

    def __call__(self, work: Work[T, R], take: Callable[[], T | None], /) -> Generator[tuple[T, R], None, None]:
        packed = work.packed()
        with _cluster(self.address, self.count) as ray:
            from ray.util import ActorPool

            threads = 1 if self.address else share_of_threads(self.count)
            kind = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=TRIES - 1)(_Actor)
            pool = ActorPool([kind.remote(packed, threads, os.getcwd()) for _ in range(self.count)])
            while _hand_out(pool, take):
                yield _next(pool, work)


class _Actor:
    """The work in a process of Ray's."""

    def __init__(self, packed: bytes, threads: int, folder: str):
        if os.path.isdir(folder):  # so that paths mean there what they mean here
            os.chdir(folder)
        use_threads(threads)
        self.hands = Hands(packed)

    def do(self, task: Any) -> tuple[Any, Any]:
        return task, self.hands(task)


def _hand_out(pool: Any, take: Callable[[], Any]) -> bool:
    """Give every actor a task, as far as there are any; is anybody busy?"""
    while pool.has_free() and (task := take()) is not None:
        pool.submit(lambda actor, task: actor.do.remote(task), task)
    return pool.has_next()


def _next(pool: Any, work: Work[T, R]) -> tuple[T, R]:
    from ray.exceptions import RayError

    try:
        task, answer = pool.get_next_unordered()
    except RayError as error:
        raise CounterscanError(
            f"{TRIES} workers of ray died at the same task ({one_line(error)[:200]}); if memory ran out, ask for fewer "
            "--workers or a smaller --batch; what is finished is kept"
        ) from error
    return task, answer.opened()


@contextmanager
def _cluster(address: str, count: int) -> Iterator[Any]:
    """Ray's module, while we are on a cluster."""
    with _environment(own=not address):
        try:
            import ray
        except ImportError:
            raise MissingExtra("ray", "ray") from None
        try:
            _connect(ray, address, count)
            yield ray
        finally:
            ray.shutdown()


@contextmanager
def _environment(own: bool) -> Iterator[None]:
    """What Ray is told by the environment, which it reads when it is imported; what a cluster of our `own` is told."""
    told = {**QUIET, **os.environ} | ({**CLOSED, "RAY_AUTH_TOKEN": _token()} if own else {})
    before = dict(os.environ)
    os.environ.update(told)
    try:
        yield
    finally:
        for name in told.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@cache
def _token() -> str:
    """What a cluster of this process asks for: made up once, for Ray keeps the first that it reads in a process."""
    return secrets.token_hex(32)


def _connect(ray: Any, address: str, count: int) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    own = {"num_cpus": count, "include_dashboard": False, "object_store_memory": STORE}
    try:
        ray.init(address=address or "local", **quiet, **({} if address else own))
    except Exception as error:  # ray raises what its parts raise
        cure = (
            "check the address, and that RAY_AUTH_MODE and RAY_AUTH_TOKEN are those of the cluster"
            if address
            else "it must start within 30 s; close other programs, or use --workers without --engine ray"
        )
        raise CounterscanError(f"ray does not start ({one_line(error)[:200]}); {cure}") from error
    if not address and (place := ray.util.get_node_ip_address()) not in LOOPBACK:
        raise CounterscanError(
            f"ray would listen on {place}; import it after this, or start a cluster and give --address"
        )
