"""The flags that say how tokens are chosen and when a text ends, and what they say."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from nsedge.api import EarlyStopping, Sampling
from nsedge.api.flat_steps import NAMES, order_of, steps_of
from nsedge.cli import values
from nsedge.errors import InvalidParameter

_Flag = tuple[Callable[[str], Any], str]
_PARAMETERS: dict[str, _Flag] = {
    "--max-tokens": (values.whole, "end after so many tokens"),
    "--temperature": (values.number, "0 is greedy"),
    "--top-k": (values.whole, "candidates kept; 0 is off"),
    "--top-p": (values.number, "nucleus; 1 is off"),
    "--min-p": (values.number, "least share of the best token's probability"),
    "--typical-p": (values.number, "nucleus of the most expected surprise; 1 is off"),
    "--top-n-sigma": (values.number, "deviations below the greatest logit; 0 is off"),
    "--min-keep": (values.whole, "tokens that every filter leaves"),
    "--repetition-penalty": (values.number, "1 is off"),
    "--presence-penalty": (values.number, "-2 to 2"),
    "--frequency-penalty": (values.number, "-2 to 2"),
    "--penalty-last-n": (values.whole, "tokens that these look at; -1 is all"),
    "--no-repeat-ngram-size": (values.whole, "no so many tokens twice; 0 is off"),
    "--seed": (values.whole, "same seed and request, same text"),
    "--min-tokens": (values.whole, "no end before so many tokens"),
    "--beams": (values.whole, "find the likeliest text by beam search; 1 is off"),
    "--length-penalty": (values.number, "the power of the length that beams are compared by; 1"),
}
_STEPS: dict[str, _Flag] = {
    "--dynatemp-range": (values.number, "below and above the temperature; 0 is off"),
    "--dynatemp-exponent": (values.number, "of the entropy's share; 1"),
    "--xtc-probability": (values.number, "of excluding top choices; 0 is off"),
    "--xtc-threshold": (values.number, "probability of a top choice; 0.1"),
    "--dry-multiplier": (values.number, "makes repetitions less likely; 0 is off"),
    "--dry-base": (values.number, "for each token more; 1.75"),
    "--dry-allowed-length": (values.whole, "shorter repetitions are free; 2"),
    "--dry-penalty-last-n": (values.whole, "tokens it looks at; -1 is all"),
    "--mirostat": (values.whole, "2, in place of filters; 0 is off"),
    "--mirostat-tau": (values.number, "wanted surprise in bits; 5"),
    "--mirostat-eta": (values.number, "how fast its bound moves; 0.1"),
    "--adaptive-target": (values.number, "wanted probability; negative is off"),
    "--adaptive-decay": (values.number, "how much less a token counts than the next; 0.9"),
}
_SEVERAL: dict[str, tuple[str, str, _Flag]] = {
    "--stop": ("stop", "TEXT", (str, "end before this text")),
    "--stop-token": ("stop_token_ids", "ID", (values.whole, "end at this token")),
    "--bad-word": ("bad_words", "TEXT", (str, "never write this text")),
    "--allow-token": ("allowed_token_ids", "ID", (values.whole, "choose among these tokens alone")),
    "--ban-token": ("banned_token_ids", "ID", (values.whole, "never choose this token")),
}
_STOPPING: dict[str, EarlyStopping] = {"false": False, "true": True, "never": "never"}
_SWITCHES = {
    "--ignore-eos": "go on past the end of sequence",
    "--clip-max-tokens": "lower a --max-tokens that does not fit",
    "--prompt-lookup": "guess words that were there before: faster",
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of a command that has text written."""
    group = parser.add_argument_group("sampling (the model's own defaults where absent)")
    for flag, (kind, text) in {**_PARAMETERS, **_STEPS}.items():
        group.add_argument(flag, type=kind, metavar="N", help=text)
    for flag, (name, metavar, (kind, text)) in _SEVERAL.items():
        group.add_argument(
            flag, action="append", default=[], dest=name, type=kind, metavar=metavar, help=text
        )
    group.add_argument(
        "--dry-sequence-breaker", action="append", dest="dry_sequence_breakers", metavar="TEXT",
        help="no repetition reaches across it",
    )  # fmt: skip
    group.add_argument(
        "--logit-bias", action="append", default=[], type=values.bias, metavar="ID=N",
        help="add N to the logit of token ID",
    )  # fmt: skip
    group.add_argument(
        "--samplers", type=samplers, metavar="NAMES",
        help="the steps to apply in their order, between commas, or a letter each",
    )  # fmt: skip
    group.add_argument(
        "--early-stopping", choices=tuple(_STOPPING), help="when a beam search ends; false"
    )
    for flag, text in _SWITCHES.items():
        group.add_argument(flag, action="store_true", help=text)


def sampling_of(options: argparse.Namespace) -> Sampling:
    """The sampling flags as a checked value.

    Raises:
        InvalidParameter: naming the one out of range.
    """
    flat = vars(options)
    names = [flag.removeprefix("--").replace("-", "_") for flag in (*_PARAMETERS, *_SWITCHES)]
    said: dict[str, Any] = {name: flat[name] for name in names if flat[name] is not None}
    said |= {name: tuple(flat[name]) for name, _, _ in _SEVERAL.values() if flat[name]}
    sampling = Sampling(
        logit_bias=dict(options.logit_bias),
        samplers=options.samplers,
        early_stopping=_STOPPING[options.early_stopping or "false"],
        **said,
        **steps_of(flat),
    )
    sampling.check()
    return sampling


def samplers(text: str) -> Any:
    """An order of steps: `top_k,temperature`, or `kt`.

    Raises:
        argparse.ArgumentTypeError: with the name that is none.
    """
    try:
        return order_of(text.split(",") if "," in text or text in NAMES else text)
    except InvalidParameter as error:
        raise argparse.ArgumentTypeError(error.message) from error
