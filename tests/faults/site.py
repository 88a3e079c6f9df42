"""A core and a shim as real processes: started, killed, stopped and started again by hand."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.daemon import free_port, healthy
from nsedge.api import Delta, Event, Finished, Loading, ModelStats, Sampling, Started
from nsedge.api.stream import EventStream
from nsedge.ipc.client import AsyncClient
from tests.ipc import short_directory

PATIENCE_S = 120.0
REPOSITORY = Path(__file__).parents[2]
PROMPT = "Once upon a time"
GREEDY = Sampling(temperature=0.0, max_tokens=16, ignore_eos=True)
ENDLESS = Sampling(temperature=0.0, ignore_eos=True)
"""As many tokens as the context holds: longer than any test looks."""


class Process:
    """One process of the daemon, on the settings of its site."""

    def __init__(self, words: list[str], folder: Path, name: str) -> None:
        self._words, self._folder, self._name = words, folder, name
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / f"{name}.log"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """All it said, over restarts."""
        return self._log.read_text(encoding="utf-8")

    def spawn(self) -> None:
        """Start it, and do not wait."""
        not_ours = ("NSEDGE_", "WATCHDOG_", "LISTEN_")
        plain = {key: value for key, value in os.environ.items() if not key.startswith(not_ours)}
        notify = str(self._folder / f"{self._name}.notify")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._words],
                env={**plain, "NOTIFY_SOCKET": notify},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=REPOSITORY,
                start_new_session=True,
            )

    def start(self) -> None:
        """Start it, and wait until it says that it is ready."""
        path = self._folder / f"{self._name}.notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
            door.bind(str(path))
            door.settimeout(0.2)
            try:
                self.spawn()
                self._await_ready(door)
            finally:
                path.unlink()

    def _await_ready(self, door: socket.socket) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            with contextlib.suppress(TimeoutError):
                if b"READY=1" in door.recv(4096):
                    return
            assert self.running, self.log
        raise TimeoutError(self.log)

    def signal(self, which: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(which)

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        """Its status, once it has ended."""
        assert self._process is not None
        return self._process.wait(PATIENCE_S)

    def end(self) -> None:
        """Be rid of it, however it stands."""
        if self.running:
            self.kill()

    def descriptors(self) -> int:
        """How many it holds open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def rss_bytes(self) -> int:
        """Its resident memory."""
        statm = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii")
        return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    @contextlib.contextmanager
    def limited(self, which: int, soft: int) -> Iterator[None]:
        """Under a resource limit (`resource.RLIMIT_...`) for a while."""
        before = resource.prlimit(self.pid, which)
        resource.prlimit(self.pid, which, (soft, before[1]))
        try:
            yield
        finally:
            resource.prlimit(self.pid, which, before)


@dataclass(frozen=True, kw_only=True)
class Site:
    """A folder, and what runs in it."""

    folder: Path
    endpoint: str
    port: int
    tcp_port: int
    """Of the core; its control socket is at the next."""
    core: Process
    shim: Process
    model: str = "smollm2-135m-instruct"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start both, and wait until the shim has found the core."""
        self.core.start()
        self.shim.start()
        asyncio.run(asyncio.wait_for(healthy(self.url), PATIENCE_S))

    @property
    def socket(self) -> str:
        """The path of the data socket."""
        return self.endpoint.removeprefix("ipc://")


def free_pair() -> int:
    """A free port with a free one after it."""
    while True:
        port = free_port()
        with contextlib.suppress(OSError), socket.socket() as next_one:
            next_one.bind(("127.0.0.1", port + 1))
            return port


@contextlib.contextmanager
def site(
    *bundles: Path,
    core: str = "",
    models: str = "",
    engine: str = "",
    words: list[str] | None = None,
) -> Iterator[Site]:
    """Nothing runs yet; whatever does in the end is killed. `core`, `models` and `engine` are
    further lines of those tables; `words` are the program's, instead of `-m nsedge`."""
    with short_directory() as folder:
        endpoint, port, tcp_port = f"ipc://{folder}/core.sock", free_port(), free_pair()
        settings = folder / "nsedge.toml"
        names = ", ".join(f'"{bundle.resolve()}"' for bundle in bundles)
        settings.write_text(
            f'home = "{folder}"\n[core]\nendpoint = "{endpoint}"\n'
            f'tcp_endpoint = "tcp://127.0.0.1:{tcp_port}"\ndrain_s = 2\n{core}'
            f"[models]\nload = [{names}]\npreload_top = 0\n{models}"
            f"[engine]\nslots = 8\ncontext_tokens = 512\n{engine}"
            f"[web]\nport = {port}\nmax_connections = 2000\ndrain_s = 2\n",
            encoding="utf-8",
        )
        program = [*(words or ["-m", "nsedge"]), "--config", str(settings)]
        made = Site(
            folder=folder,
            endpoint=endpoint,
            port=port,
            tcp_port=tcp_port,
            core=Process([*program, "serve"], folder, "core"),
            shim=Process(["-m", "nsedge", "--config", str(settings), "web"], folder, "web"),
        )
        try:
            yield made
        finally:
            made.shim.end()
            made.core.end()


def play(
    where: Site, scene: Callable[[AsyncClient], Coroutine[Any, Any, None]], **client: Any
) -> None:
    """Run `scene` with a client of the core."""

    async def run() -> None:
        async with (
            asyncio.timeout(PATIENCE_S),
            AsyncClient(where.endpoint, **client) as connected,
        ):
            await scene(connected)

    asyncio.run(run())


async def gather(stream: EventStream) -> list[Event]:
    """All events of a stream."""
    async with stream:
        return [event async for event in stream]


async def until(condition: Callable[[], bool]) -> None:
    """Look until `condition` holds of another process."""
    while not condition():  # noqa: ASYNC110 - other processes raise no events here
        await asyncio.sleep(0.02)


async def until_idle(client: AsyncClient, model: str) -> ModelStats:
    """Until nothing runs or waits, and no cache is held by anybody."""
    while True:
        stats = (await client.stats()).models[model]
        if stats.running + stats.waiting == 0:
            assert stats.kv_tokens_used == 0
            return stats
        await asyncio.sleep(0.02)


def said(events: list[Event]) -> list[Event | tuple[int, ...]]:
    """What came of a request that ended well, whichever request it was; a text is its tokens, in
    however many pieces it came."""
    assert isinstance(events[-1], Finished), events[-1]
    parts = [event for event in events if not isinstance(event, Loading | Started | Finished)]
    written = [token for part in parts if isinstance(part, Delta) for token in part.token_ids]
    if written:
        assert all(isinstance(part, Delta) for part in parts)
        return [tuple(written)]
    return [dataclasses.replace(part, request_id="") for part in parts]


def text_of(events: list[Event]) -> str:
    """The text of a stream that ended well."""
    assert isinstance(events[-1], Finished), events[-1]
    return "".join(event.text for event in events if isinstance(event, Delta))


async def answer(client: AsyncClient, model: str) -> str:
    """What the model always says to PROMPT."""
    return text_of(await gather(client.generate(model, PROMPT, sampling=GREEDY)))


@contextlib.asynccontextmanager
async def streaming(client: AsyncClient, model: str) -> AsyncIterator[EventStream]:
    """An endless stream that has begun to say something."""
    async with client.generate(model, PROMPT, sampling=ENDLESS) as events:
        async for event in events:
            if isinstance(event, Delta):
                break
        yield events
