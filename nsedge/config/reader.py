"""Settings: one TOML file, then the environment, then flags; frozen, and strict about every name.

This is the only module that reads the environment. Whatever is unknown, ill-typed or impossible
raises `ConfigInvalid`, naming where it was said and the key.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from nsedge.config import endpoints, pairs
from nsedge.config.declared import KEYS, PREFIX, Key
from nsedge.config.settings import CREDENTIAL, SECTIONS, Models, Settings
from nsedge.config.spelling import nearest
from nsedge.errors import ConfigInvalid
from nsedge.printable import is_printable

FILE_VARIABLE = "NSEDGE_CONFIG"
TOLERATED = frozenset({FILE_VARIABLE, "NSEDGE_CACHE"})
"""Variables with the prefix that are no settings: this file's own, and the exporters' cache."""

_FIRST_PASSED = 3
"""The descriptor after standard error: SD_LISTEN_FDS_START."""

_ORDERED = (
    ("engine.prefill_chunk_tokens", "engine.context_tokens", 1),
    ("core.heartbeat_s", "core.liveness_s", 2),
)
"""Pairs where the first, so many times, may not be above the second."""
_TOGETHER = (
    ("core.curve_secret", "core.curve_clients"),
    ("client.curve_secret", "client.server_key"),
    ("web.tls_cert", "web.tls_key"),
)
_ADDRESSES: tuple[tuple[str, Callable[[Settings], object]], ...] = (
    ("web.listeners", lambda settings: pairs.listeners(settings.web)),
    ("web.extra_listeners", lambda settings: pairs.extra_listeners(settings.web)),
    ("doors.wyoming", lambda settings: pairs.wyoming(settings.doors)),
)
_VARIABLES = {variable: key for key in KEYS.values() for variable in key.variables}
_Said = Iterator[tuple[str, Any, str]]
"""Key, value and origin of everything one source says."""


@dataclass(frozen=True, kw_only=True)
class Override:
    """A setting given on the command line: `flag` is what the person typed."""

    flag: str
    key: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Settings, and where each was said: key -> file, variable, flag, or "default"."""

    settings: Settings
    origins: Mapping[str, str]
    file: Path | None


@dataclass(frozen=True, kw_only=True)
class Supervisor:
    """The environment of a service supervisor: sd_notify(3), sd_watchdog_enabled(3),
    sd_listen_fds(3), and StateDirectory= of systemd.exec(5)."""

    notify_socket: str | None
    watchdog_s: float | None
    """Longest silence the supervisor bears, in seconds."""
    sockets: tuple[int, ...] = ()
    """Descriptors of the sockets that it listens on for this process."""
    state: Path | None = None
    """The directory that this process may keep its state in."""


def environment() -> dict[str, str]:
    """The process's environment."""
    return dict(os.environ)


def supervisor(environ: Mapping[str, str], pid: int) -> Supervisor:
    """Read the supervisor's variables; what is meant for another process is left out."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    count = environ.get("LISTEN_FDS", "")
    passed = environ.get("LISTEN_PID") == str(pid) and count.isdigit()
    meant = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
    state = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    watched = meant and microseconds.isdigit() and int(microseconds) > 0
    return Supervisor(
        notify_socket=environ.get("NOTIFY_SOCKET") or None,
        watchdog_s=int(microseconds) / 1e6 if watched else None,
        sockets=tuple(range(_FIRST_PASSED, _FIRST_PASSED + int(count))) if passed else (),
        state=Path(state) if state.startswith("/") else None,
    )


def traces_url(settings: Settings, environ: Mapping[str, str]) -> str:
    """Where spans go: as set, else as OpenTelemetry's own variables say; empty is nowhere."""
    base = settings.observability.otlp_endpoint or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    whole = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
    if whole and not settings.observability.otlp_endpoint:
        return whole
    return f"{base.rstrip('/')}/v1/traces" if base else ""


def default_home(environ: Mapping[str, str]) -> Path:
    """Where bundles and state live when nothing says otherwise.

    Raises:
        ConfigInvalid: where the environment names no home directory at all.
    """
    return _base(environ, "XDG_DATA_HOME", ".local/share") / "nsedge"


def load(
    environ: Mapping[str, str], *, file: Path | None = None, overrides: Iterable[Override] = ()
) -> Loaded:
    """Read file, environment and flags, each above the one before.

    Raises:
        ConfigInvalid: naming file, variable or flag, and the key.
    """
    path = _file(environ, file)
    origins = dict.fromkeys(KEYS, "default")
    values = {
        key.path: key.default for key in KEYS.values() if key.default is not msgspec.NODEFAULT
    }
    said = [_from_file(path), _from_environment(environ), _from_flags(overrides)]
    for key, value, origin in (entry for source in said for entry in source):
        values[key], origins[key] = value, origin
    if "home" not in values:
        values["home"] = default_home(environ)
    values["home"] = _absolute(values["home"], environ, origins["home"])
    for named in (key.path for key in KEYS.values() if key.is_file and values[key.path]):
        values[named] = _named_file(values[named], environ, f"{origins[named]}: {named}")
    if "core.endpoint" not in values:
        values["core.endpoint"] = _default_endpoint(environ, values["home"])
    for key in ("home", "core.endpoint"):  # the environment's own directories are in these
        _refuse_controls(str(values[key]), f"{origins[key]}: {key}")
    sections = {name: table(**_of(values, name)) for name, table in SECTIONS.items()}
    settings = Settings(home=values["home"], **sections)  # type: ignore[arg-type]
    _check(settings, origins)
    return Loaded(settings=settings, origins=origins, file=path)


def _of(values: Mapping[str, Any], section: str) -> dict[str, Any]:
    return {
        path.partition(".")[2]: value
        for path, value in values.items()
        if path.startswith(f"{section}.")
    }


def _base(environ: Mapping[str, str], variable: str, below_home: str) -> Path:
    given = environ.get(variable, "")
    if given.startswith("/"):  # the specification ignores relative ones
        return Path(given)
    if not environ.get("HOME"):
        raise ConfigInvalid(
            f"neither {variable} nor HOME is set: set NSEDGE_HOME and NSEDGE_CONFIG"
        )
    return Path(environ["HOME"]) / below_home


def _absolute(path: Path, environ: Mapping[str, str], origin: str) -> Path:
    if path.parts[:1] == ("~",) and environ.get("HOME"):
        path = Path(environ["HOME"], *path.parts[1:])
    if not path.is_absolute():
        raise ConfigInvalid(f"{origin}: home must be an absolute path, not {str(path)!r}")
    return path


def _named_file(said: str, environ: Mapping[str, str], where: str) -> str:
    name = said.removeprefix(CREDENTIAL)
    if name != said:
        folder = environ.get("CREDENTIALS_DIRECTORY", "")
        if not folder:
            raise ConfigInvalid(f"{where}: {said}, but no supervisor passes credentials here")
        if not name or "/" in name:
            raise ConfigInvalid(f"{where}: a credential has a plain name, not {name!r}")
        return f"{folder}/{name}"
    home = environ.get("HOME", "")
    path = f"{home}{said[1:]}" if said.startswith("~/") and home else said
    if not path.startswith("/"):
        raise ConfigInvalid(f"{where} must be an absolute path or credential:NAME, not {said!r}")
    return path


def _default_endpoint(environ: Mapping[str, str], home: Path) -> str:
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):
        return f"ipc://{runtime.rstrip('/')}/nsedge/nsedge.sock"
    return f"ipc://{home}/run/nsedge.sock"


def _file(environ: Mapping[str, str], given: Path | None) -> Path | None:
    named = given or (Path(environ[FILE_VARIABLE]) if environ.get(FILE_VARIABLE) else None)
    if named is not None:
        return named.expanduser()
    if not environ.get("HOME") and not environ.get("XDG_CONFIG_HOME"):
        return None
    usual = _base(environ, "XDG_CONFIG_HOME", ".config") / "nsedge" / "nsedge.toml"
    return usual if usual.is_file() else None


def _from_file(path: Path | None) -> _Said:
    if path is None:
        return
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigInvalid(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigInvalid(f"{path}: byte {error.start} is no UTF-8") from error
    except ValueError as error:  # tomllib.TOMLDecodeError
        raise ConfigInvalid(f"{path}: {error}") from error
    for name, value in tables.items():
        if name in SECTIONS and not isinstance(value, dict):
            raise ConfigInvalid(f"{path}: {name} is a table: write [{name}]")
        if name not in SECTIONS and isinstance(value, dict):
            raise ConfigInvalid(f"{path}: [{name}]: no such table{nearest(name, SECTIONS)}")
        entries = value if name in SECTIONS else {"": value}
        for below, one in entries.items():
            key = _known(f"{name}.{below}".removesuffix("."), path)
            yield key.path, _convert(key, one, str(path), strict=True), str(path)


def _from_environment(environ: Mapping[str, str]) -> _Said:
    seen: dict[str, str] = {}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable in TOLERATED:
            continue
        key = _VARIABLES.get(variable)
        if key is None:
            hint = nearest(variable, [*_VARIABLES, *TOLERATED])
            raise ConfigInvalid(f"{variable}: no such variable{hint}")
        if key.path in seen:
            twice = f"{seen[key.path]} and {variable}"
            raise ConfigInvalid(f"{twice} both set {key.path}: keep one of them")
        seen[key.path] = variable
        yield key.path, _convert(key, text, variable, strict=False), variable


def _from_flags(overrides: Iterable[Override]) -> _Said:
    for said in overrides:
        key = _known(said.key, said.flag)
        yield key.path, _convert(key, said.text, said.flag, strict=False), said.flag


def _known(path: str, origin: object) -> Key:
    if path not in KEYS:
        raise ConfigInvalid(f"{origin}: {path}: no such setting{nearest(path, KEYS)}")
    return KEYS[path]


def _convert(key: Key, value: object, origin: str, *, strict: bool) -> Any:
    given = value
    if key.is_list and isinstance(value, str) and not strict:
        given = [word.strip() for word in value.split(",") if word.strip()]
    for text in given if isinstance(given, list) else [given]:
        _refuse_controls(text, f"{origin}: {key.path}")
    try:
        return msgspec.convert(given, key.type, strict=strict, dec_hook=_path)
    except msgspec.ValidationError:
        message = f"{origin}: {key.path} must be {key.kind}, not {value!r}"
        raise ConfigInvalid(message, param=key.path) from None


def _refuse_controls(text: object, where: str) -> None:
    """No name, path or address has control characters; with one, nothing reads as it is."""
    if isinstance(text, str) and not is_printable(text):
        raise ConfigInvalid(f"{where} holds a control character: {text!a}")


def _path(kind: type, value: object) -> Path:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise TypeError("not a path")


def _check(settings: Settings, origins: Mapping[str, str]) -> None:
    for keys, fault in _faults(settings):
        said = [origins[key] for key in keys if origins[key] != "default"]
        where = said[0] if said else "default"
        raise ConfigInvalid(f"{where}: {keys[0]}: {fault}", param=keys[0])


_Faults = Iterator[tuple[tuple[str, ...], str]]
"""Faults of the settings: the keys at fault, and what is wrong."""


def _faults(settings: Settings) -> _Faults:
    core = settings.core
    yield from _endpoint_faults("core.endpoint", core.endpoint, settings)
    if core.tcp_endpoint:
        if not core.tcp_endpoint.startswith("tcp://"):
            yield ("core.tcp_endpoint",), f"must be tcp://HOST:PORT, not {core.tcp_endpoint!r}"
        yield from _endpoint_faults("core.tcp_endpoint", core.tcp_endpoint, settings)
    yield from _port_faults(settings)
    for low, high, factor in _ORDERED:
        below, above = _value(settings, low), _value(settings, high)
        if below * factor > above:
            times = "" if factor == 1 else f"{factor} times "
            yield (low, high), f"{times}{below:g} is above {high} {above:g}"
    collector = settings.observability.otlp_endpoint
    if collector and not collector.startswith(("http://", "https://")):
        yield ("observability.otlp_endpoint",), f"must begin with http:// or https://: {collector}"
    if not settings.web.host:
        yield ("web.host",), "must not be empty"
    yield from _address_faults(settings)
    for one, other in _TOGETHER:
        if bool(_text(settings, one)) != bool(_text(settings, other)):
            yield (one, other), f"it and {other} go together: set both or none"
    for name in settings.models.load:
        if "/" in name and not name.startswith("/"):
            yield ("models.load",), f"a path must be absolute, not {name!r}"
    yield from _models_faults(settings.models)


def _address_faults(settings: Settings) -> _Faults:
    for key, read in _ADDRESSES:
        try:
            read(settings)
        except ValueError as error:
            yield (key,), str(error)


def _models_faults(models: Models) -> _Faults:
    if models.keep_alive != "forever" and not models.keep_alive >= 0.0:
        yield ("models.keep_alive",), f"must be at least 0 s, not {models.keep_alive:g}"
    for key in ("aliases", "variants"):
        try:
            pairs.named(getattr(models, key))
        except ValueError as error:
            yield (f"models.{key}",), str(error)
    try:
        pairs.keep_alives(models)
    except ValueError as error:
        yield ("models.keep_alives",), str(error)
    try:
        pairs.tool_formats(models)
    except ValueError as error:
        yield ("models.tool_formats",), str(error)


def _text(settings: Settings, path: str) -> str:
    section, _, name = path.partition(".")
    value: str = getattr(getattr(settings, section), name)
    return value


def _value(settings: Settings, path: str) -> float:
    section, _, name = path.partition(".")
    value: float = getattr(getattr(settings, section), name)
    return value


def _endpoint_faults(key: str, endpoint: str, settings: Settings) -> _Faults:
    try:
        parsed = endpoints.parse(endpoint)
    except ConfigInvalid as error:
        yield (key, "home"), error.message
        return
    remote = isinstance(parsed, endpoints.TcpEndpoint) and not parsed.is_loopback
    secured = settings.core.curve_secret or settings.client.curve_secret
    if remote and not (secured or settings.core.allow_cleartext):
        yield (
            (key,),
            f"{endpoint} is reachable from other machines, and nothing is encrypted: set"
            " core.curve_secret and core.curve_clients (`nsedge keys server` makes a key), or"
            " core.allow_cleartext = true",
        )


def _port_faults(settings: Settings) -> _Faults:
    core, taken = settings.core, {settings.web.port: "web.port"} if settings.web.port else {}
    given = {"core.endpoint": core.endpoint, "core.tcp_endpoint": core.tcp_endpoint}
    for key, endpoint in given.items():
        parsed = endpoints.parse(endpoint) if endpoint else None
        if not isinstance(parsed, endpoints.TcpEndpoint):
            continue
        for port in (parsed.port, parsed.control().port):
            if port in taken:
                yield (key, taken[port]), f"{endpoint} needs port {port}, which {taken[port]} has"
            taken[port] = key
