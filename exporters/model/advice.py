"""What a model's makers advise on sampling: taken over within a request's own bounds."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from exporters.errors import Refused
from exporters.model.files import shown
from nsedge.bundle.causal_lm import GenerationDefaults

WHOLE = frozenset({"top_k", "penalty_last_n", "no_repeat_ngram_size"})
NEUTRAL: Mapping[str, tuple[object, ...]] = {
    **dict.fromkeys(("bad_words_ids", "suppress_tokens", "begin_suppress_tokens"), ([],)),
    **dict.fromkeys(("forced_bos_token_id", "forced_eos_token_id", "stop_strings"), ()),
    **dict.fromkeys(("sequence_bias", "penalty_alpha", "exponential_decay_length_penalty"), ()),
    **dict.fromkeys(("epsilon_cutoff", "eta_cutoff"), (0,)),
    **dict.fromkeys(("min_length", "min_new_tokens"), (0,)),
    **dict.fromkeys(("num_beams", "encoder_repetition_penalty"), (1,)),
    "guidance_scale": (1,),
    "do_sample": (True,),
}
"""Advice that changes answers and that nobody follows here, with the values at which it does not;
null is one of them throughout."""


def defaults_of(advice: Mapping[str, object], where: str) -> GenerationDefaults:
    """The defaults that `advice` gives, by the names that they have in a manifest.

    Raises:
        Refused: a value is no number or out of bounds; the message names it, and what holds it.
    """
    defaults = GenerationDefaults()
    for name in GenerationDefaults.__struct_fields__:
        if (value := advice.get(name)) is not None:
            changed = {name: checked(name, value, f"{where}: ")}
            defaults = msgspec.structs.replace(defaults, **changed)
    return defaults


def checked(name: str, value: object, begin: str) -> int | float:
    """`value` where it may be the default `name`; messages `begin` so.

    Raises:
        Refused: it may not.
    """
    kind = "a whole number" if name in WHOLE else "a number"
    is_number = isinstance(value, int if name in WHOLE else (int, float))
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not is_number:
        raise Refused(f"{begin}{name} must be {kind}, not {shown(value)}")
    try:
        msgspec.structs.replace(GenerationDefaults(), **{name: value})
    except ValueError as error:
        raise Refused(f"{begin}{error}") from error
    return value


def left_aside(advice: Mapping[str, object]) -> list[str]:
    """What of `advice` changes answers, and is not followed."""
    return [
        f"{name}={shown(advice[name])}"
        for name, neutral in NEUTRAL.items()
        if advice.get(name) is not None and advice[name] not in neutral
    ]
