"""The command line's grammar: from words to a command, settings said by flags, and its options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nsedge.cli import constraining, sampling, scheduling, showing, values
from nsedge.cli.parser import Parser
from nsedge.cli.reading_arguments import add_readers
from nsedge.config.reader import Override
from nsedge.process import console
from nsedge.version import VERSION


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """A command line as a person typed it."""

    command: str
    config: Path | None
    overrides: tuple[Override, ...]
    json: bool
    options: argparse.Namespace


SERVERS = ("up", "serve", "web")
"""Commands that run until stopped; their JSON is the log's."""

_CORE_FLAGS = {
    "--models": ("models.load", "NAMES", "bundles to load, by name or path, between commas"),
    "--slots": ("engine.slots", "N", "requests that run at once"),
    "--context-tokens": ("engine.context_tokens", "N", "prompt and output of one request"),
    "--threads": ("engine.threads", "N", "threads of the model; 0 is every usable core"),
    "--device": ("engine.device", "NAME", "auto, cpu or cuda"),
    "--tcp-endpoint": ("core.tcp_endpoint", "ENDPOINT", "a second door, tcp://HOST:PORT"),
}
_WEB_FLAGS = {
    "--host": ("web.host", "ADDRESS", "address of the HTTP shim"),
    "--port": ("web.port", "N", "port of the HTTP shim"),
}
_COMMON_FLAGS = {
    "--home": ("home", "DIR", "where bundles and state live"),
    "--endpoint": ("core.endpoint", "ENDPOINT", "where the core is: ipc:///path or tcp://..."),
    "--log-level": ("log.level", "LEVEL", "debug, info, warning or error"),
}


def parse(words: Sequence[str]) -> Invocation:
    """Read the command line's words, without the program's name.

    Raises:
        SystemExit: status 2 after one line on standard error; 0 after --help or --version.
    """
    parser = command_parser()
    try:
        texts = [console.text_of(word) for word in words]
    except ValueError as error:
        parser.error(f"an argument is not text: {error}")
    options = parser.parse_args(texts)
    options.config = options.config or options.config_first
    options.overrides = (*options.overrides_first, *options.overrides)
    if options.json and options.command in SERVERS:
        as_json = Override(flag="--json", key="log.json", text="true")
        options.overrides = (*options.overrides, as_json)
    return Invocation(
        command=options.command,
        config=options.config,
        overrides=options.overrides,
        json=options.json,
        options=options,
    )


class _Setting(argparse.Action):
    """A flag that stands for one setting; its value is checked where settings are read."""

    def __init__(self, *, key: str | None = None, **rest: Any) -> None:
        super().__init__(**rest)
        self._key = key

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        key, text = self._key, str(values)
        if key is None:
            key, found, text = text.partition("=")
            if not found:
                parser.error(f"{option_string} needs KEY=VALUE, not {values!r}")
        said = Override(flag=option_string or key, key=key.strip(), text=text.strip())
        setattr(namespace, self.dest, (*getattr(namespace, self.dest), said))


def command_parser() -> argparse.ArgumentParser:
    """The grammar of `nsedge`, every command in it."""
    parser = Parser(
        prog="nsedge",
        description="Run language models on this machine and serve them to every app on it.",
    )
    parser.add_argument("--version", action="version", version=f"nsedge {VERSION}")
    _settings_flags(parser, _COMMON_FLAGS, first="_first")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _servers(commands)
    _talkers(commands)
    _transcribe(commands)
    _caption(commands)
    _gen(commands)
    _keepers(commands)
    for name, meaning in (
        ("models", "the models served, in memory or on disk"),
        ("stats", "what the daemon is doing, and what its models hold"),
        ("usage", "how models have been used, and which are worth loading"),
        ("doctor", "check this installation and say what to do about each fault"),
    ):
        _command(commands, name, meaning, _COMMON_FLAGS)
    _top(commands)
    _install_units(commands)
    _keys(commands)
    return parser


_Commands = Any
"""argparse's subparsers action, whose class is private."""


def _command(
    commands: _Commands, name: str, meaning: str, *flags: dict[str, tuple[str, str, str]]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=meaning, description=meaning[0].upper() + meaning[1:] + "."
    )
    _settings_flags(parser, *flags)
    parser.add_argument("--json", action="store_true", help="JSON on standard output")
    return parser


def _settings_flags(
    parser: argparse.ArgumentParser, *flags: dict[str, tuple[str, str, str]], first: str = ""
) -> None:
    """Flags for settings; `first` keeps those before the command apart from those after it, which
    argparse would have overwrite them."""
    group = parser.add_argument_group("settings (docs/settings.md)")
    group.add_argument(
        "--config", type=Path, metavar="FILE", dest=f"config{first}", help="the TOML file to read"
    )
    dest = f"overrides{first}"
    group.add_argument(
        "--set", action=_Setting, metavar="KEY=VALUE", dest=dest, default=(),
        help="any setting, such as engine.slots=8; may be repeated",
    )  # fmt: skip
    for flag, (key, metavar, text) in (entry for table in flags for entry in table.items()):
        group.add_argument(
            flag, action=_Setting, key=key, metavar=metavar, dest=dest, default=(), help=text
        )


def _keys(commands: _Commands) -> None:
    keys = commands.add_parser("keys", help="make and list keys", description="Make and list keys.")
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    _command(actions, "list", "the keys there are; never the secrets", _COMMON_FLAGS)
    add = _command(actions, "add", "make an API key for the HTTP shim, and show it", _COMMON_FLAGS)
    client = _command(
        actions, "client", "make a key for a client of the core over TCP", _COMMON_FLAGS
    )
    remove = _command(actions, "remove", "let a key in no more", _COMMON_FLAGS)
    for parser in (add, client, remove):
        parser.add_argument("name", metavar="NAME")
    for parser in (add, client):
        parser.add_argument(
            "--scopes", default="infer,read", metavar="WORDS", help="of infer, manage and read"
        )
    for what in ("requests", "tokens"):
        add.add_argument(
            f"--{what}-per-minute",
            type=values.whole,
            metavar="N",
            help="0 is no limit; else web's setting",
        )
    client.add_argument("--public", metavar="KEY", help="let in a public key made elsewhere")
    _command(actions, "server", "make the core's own key, for TCP", _COMMON_FLAGS)
    signer = _command(actions, "signer", "make a key to sign bundles with", _COMMON_FLAGS)
    sign = _command(actions, "sign", "sign a bundle", _COMMON_FLAGS)
    sign.add_argument("bundle", metavar="BUNDLE", type=Path)
    for parser in (signer, sign):
        parser.add_argument("--key", metavar="FILE", type=Path, help="the secret key's file")


def _servers(commands: _Commands) -> None:
    both = {**_CORE_FLAGS, **_WEB_FLAGS}
    for name, meaning, flags in (
        ("up", "run the core and the HTTP shim until Ctrl-C", both),
        ("serve", "run the core: models, and the ZeroMQ door", _CORE_FLAGS),
        ("web", "run the HTTP shim, a client of the core", _WEB_FLAGS),
    ):
        parser = _command(commands, name, meaning, _COMMON_FLAGS, flags)
        parser.add_argument(
            "--until-eof", action="store_true", help="stop when standard input ends, too"
        )


def _top(commands: _Commands) -> None:
    top = _command(commands, "top", "what the daemon is doing, as it does it", _COMMON_FLAGS)
    top.add_argument("--interval", type=values.interval, default=2.0, metavar="SECONDS",
        help="between two looks; 2")  # fmt: skip
    top.add_argument("--once", action="store_true", help="one look, over one interval, and end")


def _install_units(commands: _Commands) -> None:
    parser = _command(commands, "install-units", "install the systemd units that run the daemon")
    parser.add_argument(
        "--root", type=Path, default=Path("/"), metavar="DIR",
        help="write below DIR and leave the running system alone, as packages are made",
    )  # fmt: skip
    parser.add_argument("--now", action="store_true", help="enable them, and start them anew")


def _talkers(commands: _Commands) -> None:
    run = _command(commands, "run", "generate once and stream the text", _COMMON_FLAGS)
    run.add_argument("model", metavar="MODEL")
    run.add_argument(
        "prompt",
        metavar="PROMPT",
        nargs="*",
        default=[],
        help="read from standard input where absent",
    )
    run.add_argument(
        "--logprobs", type=values.whole, metavar="N",
        help="with --json: each token's log-probability, and those of the N likeliest",
    )  # fmt: skip
    run.add_argument("--raw", action="store_true", help="continue the text: no chat template")
    chat = _command(commands, "chat", "talk with a model, turn by turn", _COMMON_FLAGS)
    chat.add_argument("model", metavar="MODEL")
    add_readers(lambda name, meaning: _command(commands, name, meaning, _COMMON_FLAGS))
    for parser in (run, chat):
        parser.add_argument("--system", metavar="TEXT", help="a system message before the prompt")
        parser.add_argument("--quiet", action="store_true", help="no figures on standard error")
        sampling.add_flags(parser)
        showing.add_flags(parser)
        constraining.add_flags(parser)
        scheduling.add_flags(parser)


def _transcribe(commands: _Commands) -> None:
    parser = _command(commands, "transcribe", "write what is said in recordings", _COMMON_FLAGS)
    parser.add_argument("files", metavar="FILE", nargs="*", help="sound; - is standard input")
    parser.add_argument(
        "--live", action="store_true",
        help="write standard input (-) while it comes: WAV, or with --raw samples alone",
    )  # fmt: skip
    parser.add_argument(
        "--raw", type=values.whole, metavar="HZ",
        help="with --live: 16-bit little-endian samples of one channel, so many a second",
    )  # fmt: skip
    parser.add_argument(
        "--microphone", action="store_true",
        help="write what the microphone hears, until Ctrl-C; needs the package sounddevice",
    )  # fmt: skip
    parser.add_argument("--model", metavar="NAME", help="media.speech_model, or the first there is")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--srt", action="store_true", help="subtitles as SubRip has them")
    forms.add_argument("--vtt", action="store_true", help="subtitles as WebVTT has them")
    forms.add_argument(
        "--words", action="store_true", help="a line a word: begin and end in seconds, the word"
    )
    parser.add_argument("--language", metavar="CODE", help="such as en; detected where absent")
    parser.add_argument("--translate", action="store_true", help="write it in English")
    parser.add_argument(
        "--prompt", dest="prompt_text", metavar="TEXT",
        help="what was said before, or words as they are to be spelt",
    )  # fmt: skip
    parser.add_argument(
        "--temperature", type=values.number, metavar="T",
        help="the first that is tried; higher ones follow where the result is doubtful",
    )  # fmt: skip
    parser.add_argument("--seed", type=values.whole, metavar="N", help="of what is drawn")
    parser.add_argument(
        "--beams", type=values.whole, metavar="N",
        help="find the likeliest text by beam search, so many at a time: slower; 1 is off",
    )  # fmt: skip
    parser.add_argument(
        "--patience", type=values.number, metavar="N",
        help="end the search with beams * N texts; 1",
    )  # fmt: skip
    parser.add_argument(
        "--vad", action=argparse.BooleanOptionalAction,
        help="leave out what nobody speaks in; where absent, of what is longer than 30 s",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    scheduling.add_flags(parser)


def _caption(commands: _Commands) -> None:
    parser = _command(commands, "caption", "write what is to be seen in pictures", _COMMON_FLAGS)
    parser.add_argument("files", metavar="FILE", nargs="+", help="pictures; - is standard input")
    parser.add_argument(
        "--model", metavar="NAME", help="media.caption_model, or the first there is"
    )
    parser.add_argument(
        "--prompt", dest="prompt_text", metavar="TEXT", help="what the caption goes on from"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    sampling.add_flags(parser)
    constraining.add_flags(parser)
    scheduling.add_flags(parser)


def _gen(commands: _Commands) -> None:
    parser = _command(commands, "gen", "make pictures of a prompt", _COMMON_FLAGS)
    parser.add_argument("kind", choices=("image",), help="what is made")
    parser.add_argument(
        "--prompt", dest="prompt_text", metavar="TEXT", required=True, help="what is to be seen"
    )
    parser.add_argument("--negative-prompt", metavar="TEXT", help="what it is to be unlike")
    parser.add_argument("--model", metavar="NAME", help="the first that makes pictures")
    parser.add_argument("--size", type=values.size, metavar="WxH", help="the model's own")
    parser.add_argument("--steps", type=values.whole, metavar="N", help="the model's own")
    parser.add_argument(
        "--guidance", type=values.number, metavar="N", help="how strongly the prompt holds"
    )
    parser.add_argument(
        "--guidance-rescale", type=values.number, metavar="N",
        help="0 to 1: how far guidance is kept from widening the spread",
    )  # fmt: skip
    parser.add_argument("--scheduler", metavar="NAME", help="the model's own (docs/images.md)")
    parser.add_argument("--seed", type=values.whole, metavar="N", help="of the noise; any")
    parser.add_argument("--image", type=Path, metavar="FILE", help="what it goes on from")
    parser.add_argument(
        "--strength", type=values.number, metavar="N", help="0 to 1: how far from --image; 0.8"
    )
    parser.add_argument(
        "--mask", type=Path, metavar="FILE", help="of --image, what is light is made anew"
    )
    parser.add_argument("--count", type=values.whole, metavar="N", help="how many; 1")
    parser.add_argument(
        "--out", metavar="FILE", help="a PNG file, numbered where there are several; seed-SEED.png"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    scheduling.add_flags(parser)


def _keepers(commands: _Commands) -> None:
    """Commands that bring models into memory and out of it."""
    load = _command(commands, "load", "load models into memory", _COMMON_FLAGS)
    load.add_argument("models", metavar="MODEL", nargs="+")
    load.add_argument(
        "--keep-alive",
        type=values.keep_alive,
        metavar="TIME",
        help="unload when unused so long: 300, 5m, now, forever",
    )
    pins = load.add_mutually_exclusive_group()
    pins.add_argument("--pin", action="store_true", default=None, help="never unload or evict it")
    pins.add_argument("--unpin", action="store_false", dest="pin", help="take a pin away")
    load.add_argument("--exclusive", action="store_true", help="unload all others first")
    load.add_argument("--no-wait", action="store_true", help="return once the load is queued")
    scheduling.add_priority_flag(load)
    unload = _command(commands, "unload", "let models leave memory", _COMMON_FLAGS)
    unload.add_argument("models", metavar="MODEL", nargs="*")
    unload.add_argument("--all", action="store_true", help="every model")
    unload.add_argument(
        "--drain", type=values.number, metavar="SECONDS", help="end what still runs after so long"
    )
    reload = _command(commands, "reload", "read models anew from disk", _COMMON_FLAGS)
    reload.add_argument("models", metavar="MODEL", nargs="+")
    alias = _command(commands, "alias", "give a model a further name", _COMMON_FLAGS)
    alias.add_argument("name", metavar="NAME")
    alias.add_argument("model", metavar="MODEL", nargs="?", help="without it the name goes away")
