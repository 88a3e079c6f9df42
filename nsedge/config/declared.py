"""The settings as declared: keys, environment variables, kinds, and the page of them all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from nsedge.config.settings import FILE_KIND, SECTIONS, Settings

PREFIX = "NSEDGE_"
SHORT_VARIABLES = {"core.endpoint": "NSEDGE_ENDPOINT"}


@dataclass(frozen=True, kw_only=True)
class Key:
    """One setting, as the code declares it."""

    path: str
    type: Any
    meta: Meta
    default: Any
    """`msgspec.NODEFAULT` where it depends on the environment."""

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment's names for it, the short one first."""
        plain = PREFIX + self.path.replace(".", "_").upper()
        short = SHORT_VARIABLES.get(self.path)
        return (plain,) if short is None else (short, plain)

    @property
    def is_file(self) -> bool:
        """Whether it names a file."""
        return self.meta.title == FILE_KIND

    @property
    def is_list(self) -> bool:
        """Whether the environment and flags give it as words between commas."""
        return get_origin(get_args(self.type)[0]) is tuple

    @property
    def kind(self) -> str:
        """The values that are allowed, in words."""
        if self.meta.title is not None:
            return self.meta.title
        bare = get_args(self.type)[0]
        if bare is bool:
            return "true or false"
        if get_origin(bare) is Literal:
            return " or ".join(f'"{choice}"' for choice in get_args(bare))
        number = "a whole number" if bare is int else "a number"
        return f"{number} from {self.meta.ge:g} to {_plain(self.meta.le)}"


def _plain(number: float | None) -> str:
    return str(int(number)) if number is not None else ""


def _keys() -> Iterator[Key]:
    tables: list[tuple[str, type[msgspec.Struct]]] = [("", Settings), *SECTIONS.items()]
    for section, table in tables:
        for field in msgspec.structs.fields(table):
            if get_origin(field.type) is Annotated:
                path = f"{section}.{field.name}".removeprefix(".")
                meta = get_args(field.type)[1]
                yield Key(path=path, type=field.type, meta=meta, default=field.default)


KEYS: dict[str, Key] = {key.path: key for key in _keys()}


def _shown(key: Key) -> str:
    if key.meta.extra is not None:
        return str(key.meta.extra["as"])
    if isinstance(key.default, tuple):
        return f"`[{', '.join(key.default)}]`"
    return f"`{msgspec.json.encode(key.default).decode()}`"


def page() -> str:
    """docs/settings.md, from the declarations above."""
    rows = [
        "| "
        + " | ".join(
            (
                f"`{key.path}`",
                key.kind,
                _shown(key),
                "<br>".join(f"`{variable}`" for variable in key.variables),
                key.meta.description or "",
            )
        )
        + " |"
        for key in KEYS.values()
    ]
    return _PAGE.format(rows="\n".join(rows))


_PAGE = """# Settings

Written by `make docs` from the sections in `nsedge/config/`; a test holds this page to the code.

A setting is taken from the command line, else from the environment, else from the file, else it
is the default. The file is TOML: the one that `--config` or `NSEDGE_CONFIG` names, else
`$XDG_CONFIG_HOME/nsedge/nsedge.toml` (`~/.config/nsedge/nsedge.toml`) where there is one. Any
setting can be given on the command line as `--set KEY=VALUE`; lists are words between commas there
and in the environment. An unknown name, a value of the wrong kind or a pair that cannot be ends
the program at once with status 2 and one line that says which. `nsedge doctor` shows what is in
force and where it was said.

```toml
home = "/srv/nsedge"

[core]
tcp_endpoint = "tcp://127.0.0.1:5555"

[engine]
slots = 8
```

| key | value | default | environment | meaning |
|---|---|---|---|---|
{rows}

`NSEDGE_CACHE` names the exporters' cache and is no setting of the daemon.
"""
