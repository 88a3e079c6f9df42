"""`nsedge doctor`: what is well, what is not, and what to do about it."""

from __future__ import annotations

import argparse
import contextlib
import enum
import http.client
import importlib.metadata
import platform
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from nsedge import native
from nsedge.api import HealthStatus, ModelInfo
from nsedge.bundle.adapter import Adapter, open_package
from nsedge.bundle.fields import FORMAT_VERSION
from nsedge.bundle.files import MANIFEST_FILE, version_of
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.vocabulary import check_vocabulary
from nsedge.cli import bundles, machine, output
from nsedge.cli.exits import ExitStatus
from nsedge.config import pairs
from nsedge.config.declared import KEYS
from nsedge.config.endpoints import TcpEndpoint
from nsedge.config.reader import Loaded
from nsedge.config.settings import Settings
from nsedge.errors import ConnectionLost, NsedgeError
from nsedge.ipc import reach
from nsedge.ipc.curve import KeyPair
from nsedge.process import console
from nsedge.runtime.graph.session import available_providers, engine_version, why_not
from nsedge.runtime.hosting import trust
from nsedge.runtime.machine.cores import usable_cores
from nsedge.security import keyring
from nsedge.version import VERSION

CUDA_PROVIDER = "CUDAExecutionProvider"
ANSWER_TIMEOUT_S = 2.0
OTHER_PORT = "choose another web.port, or stop that program; `nsedge web` starts the HTTP shim"


class State(enum.StrEnum):
    """How a check came out."""

    OK = "ok"
    NOTE = "note"
    FAULT = "fault"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at; a fault says what to do."""

    name: str
    detail: str
    state: State = State.OK
    remedy: str | None = None


def run(loaded: Loaded, options: argparse.Namespace) -> int:
    """Look at everything; 1 where anything is at fault."""
    checks = list(_checks(loaded.settings))
    well = all(check.state is not State.FAULT for check in checks)
    in_force = list(_in_force(loaded))
    if options.json:
        settings = [{"key": key, "value": value, "from": said} for key, value, said in in_force]
        output.say_json({"ok": well, "checks": checks, "settings": settings})
    else:
        console.say(*(line for check in checks for line in _lines(check)))
        console.say("", f"Settings in force (file: {loaded.file or 'none'})")
        rows = [(key, _short(value), said) for key, value, said in in_force]
        console.say(*output.table(("KEY", "VALUE", "FROM"), rows))
    return ExitStatus.OK if well else ExitStatus.FAILURE


def _checks(settings: Settings) -> Iterator[Check]:
    yield _python()
    yield Check(name="nsedge", detail=f"{VERSION} in {Path(__file__).parent.parent}")
    yield from _runtime(settings)
    yield from _device()
    yield from _bundles(settings)
    yield from _access(settings)
    yield from _core(settings)
    yield shim(settings)


def _python() -> Check:
    return Check(name="python", detail=f"{platform.python_version()} at {sys.executable}")


def _runtime(settings: Settings) -> Iterator[Check]:
    providers = available_providers()
    yield Check(
        name="onnxruntime", detail=f"{engine_version()}, providers built in: {_list(providers)}"
    )
    lacking = native.why_not()
    native_is = lacking or f"{native.library()}, by {native.instructions()}"
    yield Check(name="operators", detail=f"native: {native_is}")
    both = [name for name in ("onnxruntime", "onnxruntime-gpu") if _installed(name)]
    if len(both) > 1:
        yield Check(
            name="onnxruntime",
            detail="onnxruntime and onnxruntime-gpu overwrite each other's files",
            state=State.FAULT,
            remedy="pip uninstall onnxruntime onnxruntime-gpu, then install onnxruntime-gpu alone",
        )
    if settings.engine.device == "cuda" and (reason := why_not("cuda")) is not None:
        yield Check(
            name="device",
            detail=f"engine.device is cuda, but {reason}",
            state=State.FAULT,
            remedy="see that nvidia-smi names a GPU and that onnxruntime-gpu is installed, or set"
            " engine.device to auto",
        )


def _device() -> Iterator[Check]:
    memory = machine.memory_bytes()
    sizes = ", ".join(
        f"{output.bytes_text(memory[key])} {text}"
        for key, text in (("MemTotal", "of memory"), ("MemAvailable", "available"))
        if key in memory
    )
    yield Check(name="machine", detail=f"{platform.machine()}, {usable_cores()} cores, {sizes}")
    tegra, gpus = machine.tegra_release(), machine.gpus()
    if tegra is not None:
        yield Check(name="gpu", detail=f"Jetson: {tegra}")
    elif gpus:
        yield from (Check(name="gpu", detail=gpu) for gpu in gpus)
    elif machine.has_driver():
        yield Check(
            name="gpu",
            detail="the NVIDIA driver is loaded, but nvidia-smi sees no GPU",
            state=State.FAULT,
            remedy="run nvidia-smi and follow what it says; after a suspend, reload nvidia_uvm",
        )
    else:
        yield Check(name="gpu", detail="no NVIDIA GPU: models run on the CPU")


def _bundles(settings: Settings) -> Iterator[Check]:
    try:
        paths = bundles.chosen(settings)
    except NsedgeError as error:
        yield Check(
            name="bundles",
            detail=error.message,
            state=State.FAULT,
            remedy=f"set home or models.load to where bundles are; {bundles.MAKE_ONE}",
        )
        return
    yield from (_bundle(path, settings) for path in paths)
    for stray in bundles.strays(settings):
        yield Check(name="models", detail=stray, state=State.NOTE, remedy="see how it is spelt")


def _bundle(path: Path, settings: Settings) -> Check:
    try:
        trust.check_signature(path, settings.models.signers)
        package = open_package(path)
        package.verify_hashes()
        if isinstance(package, Bundle):
            check_vocabulary(package)
    except NsedgeError as error:
        return Check(
            name="bundle",
            detail=error.message,
            state=State.FAULT,
            remedy=_bundle_remedy(path),
        )
    if isinstance(package, Adapter):
        variants = _list(form.variant for form in package.manifest.forms)
    else:
        variants = _list(f"{one.name} ({one.device})" for one in package.manifest.variants)
    return Check(name="bundle", detail=f"{package.name}: whole; {variants}; {path}")


def _bundle_remedy(path: Path) -> str:
    with contextlib.suppress(NsedgeError):
        if version_of(path / MANIFEST_FILE) > FORMAT_VERSION:
            return f"update nsedge, or export {path} anew with {VERSION}"
    return f"delete {path} and export it anew"


def _access(settings: Settings) -> Iterator[Check]:
    core, web = settings.core, settings.web
    curve = "CURVE keys" if core.curve_secret else "nothing"
    tcp = f"; {core.tcp_endpoint} asks for {curve}" if core.tcp_endpoint else ""
    asked = "an API key" if web.keys else "nothing"
    over = "HTTPS" if web.tls_cert else "clear text"
    detail = f"socket mode {core.socket_mode}{tcp}; HTTP at {web.host} asks for {asked}, in {over}"
    yield Check(name="access", detail=detail)
    for name, file, read in (
        ("web.keys", web.keys, keyring.read),
        ("core.curve_clients", core.curve_clients, keyring.read),
        ("core.curve_secret", core.curve_secret, KeyPair.read),
        ("client.curve_secret", settings.client.curve_secret, KeyPair.read),
    ):
        try:
            if file:
                read(Path(file))
        except NsedgeError as error:
            yield Check(
                name="access",
                detail=f"{name}: {error.message}",
                state=State.FAULT,
                remedy="`nsedge keys` makes and lists keys; docs/security.md says which",
            )


def _core(settings: Settings) -> Iterator[Check]:
    endpoint = settings.core.endpoint
    try:
        with reach.to_core(settings, timeout_s=ANSWER_TIMEOUT_S) as client:
            health, models = client.health(), client.models()
    except ConnectionLost as error:
        yield Check(
            name="core",
            detail=f"not running: {error.message}",
            state=State.FAULT,
            remedy="start it with `nsedge up`, or `nsedge serve`",
        )
        return
    except NsedgeError as error:
        yield Check(
            name="core",
            detail=f"{endpoint}: {error.message}",
            state=State.FAULT,
            remedy="docs/security.md says which keys it takes, and what each may do",
        )
        return
    remedy = None
    if health.status is not HealthStatus.READY:
        remedy = health.reason or "wait until its models are loaded; its log says how far it is"
    elif health.version != VERSION:
        remedy = f"restart it: it is not of this release, {VERSION}"
    yield Check(
        name="core",
        detail=f"{health.version} at {endpoint}, {health.status.value}, up {health.uptime_s:.0f} s",
        state=State.OK if remedy is None else State.FAULT,
        remedy=remedy,
    )
    yield from (_model(model, settings) for model in models)


def _model(model: ModelInfo, settings: Settings) -> Check:
    wrong = settings.engine.device == "cuda" and model.provider != CUDA_PROVIDER
    at_fault = wrong or model.error is not None
    in_use = model.error or f"{model.state.value}, {model.variant} on {model.provider}"
    return Check(
        name="model",
        detail=f"{model.name}: {in_use}",
        state=State.FAULT if at_fault else State.OK,
        remedy="see the core's log, and restart it" if at_fault else None,
    )


def shim(settings: Settings) -> Check:
    """Whether the shim answers, where its door for operations listens."""
    shared = TcpEndpoint(settings.web.host, settings.web.port)
    place = dict(reversed(pairs.listeners(settings.web))).get("operations", shared)
    host = f"[{place.host}]" if place.is_ipv6 else place.host
    scheme = "https" if settings.web.tls_cert else "http"
    address = f"{scheme}://{host}:{place.port}"
    anybody = ssl.create_default_context()  # its name is for its clients to check
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    try:
        live = f"{address}/live"
        with urllib.request.urlopen(live, timeout=ANSWER_TIMEOUT_S, context=anybody):
            return Check(name="web", detail=f"listening at {address}")
    except urllib.error.HTTPError as error:
        return _no_shim(f"another program answers at {address} ({error})", OTHER_PORT)
    except http.client.HTTPException as error:
        named = type(error).__name__
        return _no_shim(f"another program listens at {address} ({named})", OTHER_PORT)
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        why = console.reason(reason) if isinstance(reason, Exception) else reason
        return _no_shim(
            f"nothing of ours at {address} ({why})", "`nsedge web` starts the HTTP shim"
        )


def _no_shim(detail: str, remedy: str) -> Check:
    return Check(name="web", detail=detail, state=State.NOTE, remedy=remedy)


def _in_force(loaded: Loaded) -> Iterator[tuple[str, object, str]]:
    told = {**msgspec.to_builtins(loaded.settings, enc_hook=str)}
    for key in KEYS:
        section, _, name = key.rpartition(".")
        value = told[section][name] if section else told[name]
        yield key, value, loaded.origins[key]


def _short(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _lines(check: Check) -> list[str]:
    line = f"{check.state.value:5}  {check.name:11}  {check.detail}"
    return [line] if check.remedy is None else [line, f"{'':20}-> {check.remedy}"]


def _list(words: Iterator[str] | tuple[str, ...]) -> str:
    return ", ".join(words) or "none"


def _installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
