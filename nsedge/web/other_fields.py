"""Fields of a request body that its route does not honour: harmless, asking for what cannot be had
here, or unknown. None that could change the answer is passed over in silence.

The names are those of OpenAI's API, vLLM and llama.cpp's server, and of Ollama and SGLang where
they ask for a constraint.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nsedge.errors import InvalidParameter

HARMLESS = frozenset(
    {
        # Of accounts, billing and caches that are not ours.
        "user",
        "store",
        "metadata",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "request_id",
        # Of speed alone.
        "prediction",
        "cache_prompt",
        "id_slot",
        "n_cache_reuse",
        "backend_sampling",
        "sse_ping_interval",
        # Of a context that slides on when it is full; here it never does.
        "n_keep",
        "n_discard",
        # Details of what is refused itself, or is off.
        "parallel_tool_calls",
        "parse_tool_calls",
        "guided_decoding_backend",
    }
)
"""What changes no answer, whatever its value."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    # Constraints on the answer.
    "grammar_lazy": (False,),
    "grammar_triggers": ([],),
    "structural_tag": (),
    "guided_whitespace_pattern": (),
    "format": ("",),
    "logits_processors": ([],),
    # Tools.
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "web_search_options": (),
    # How the prompt is made.
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "continue_final_message": (False,),
    "add_generation_prompt": (True,),
    "documents": ([],),
    "truncate_prompt_tokens": (),
    "suffix": ("",),
    "mm_processor_kwargs": ({},),
    # How the model thinks, and what of it is shown.
    "reasoning_effort": ("none",),
    "reasoning_format": ("none",),
    "reasoning_budget_tokens": (-1,),
    "include_reasoning": (True,),
    "enable_thinking": (),
    "verbosity": ("medium",),
    # Samplers that are not here.
    "use_beam_search": (False,),
    "length_penalty": (1,),
    "include_stop_str_in_output": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "lora": ([],),
    # Where the answer ends.
    "n_predict": (-1,),
    "n_indent": (0,),
    "t_max_predict_ms": (-1, 0),
    # What else the answer should tell, or be.
    "logprobs": (False,),
    "top_logprobs": (0,),
    "return_tokens_as_token_ids": (False,),
    "n_probs": (0,),
    "post_sampling_probs": (False,),
    "prompt_logprobs": (),
    "echo": (False,),
    "return_tokens": (False,),
    "return_token_ids": (False,),
    "return_progress": (False,),
    "timings_per_token": (False,),
    "verbose": (False,),
    "response_fields": ([],),
    "modalities": (["text"],),
    "audio": (),
    "moderation": (),
    # What keeps a prompt apart from others'.
    "cache_salt": (),
}
"""What cannot be had here, with the values that ask for nothing; so does null."""

FORMS: dict[str, tuple[Any, ...]] = {
    "response_format": ({"type": "text"},),
    "json_schema": (),
    "grammar": ("",),
    "guided_json": (),
    "guided_json_object": (False,),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "structured_outputs": (),
    "regex": (),
    "ebnf": (),
}
"""The same of what says what an answer must look like (`constraint_fields`), where a route has no
such field."""

INSTEAD = {
    "n_predict": "max_tokens",
    "t_max_predict_ms": "deadline_s",
    "lora": "model: BASE:ADAPTER",
    "functions": "tools",
    "function_call": "tool_choice",
}
"""What is meant by it here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherFields:
    """How a route takes fields that it does not honour.

    - own: values that ask for nothing on this route, above those of `NEUTRAL`.
    - harmless: names that change no answer on this route, beside `HARMLESS`.
    - refuse_unknown: whether a field of no list is refused, rather than left out and told.
    """

    own: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    harmless: frozenset[str] = frozenset()
    refuse_unknown: bool = True

    def check(
        self, found: Mapping[str, Any], *, honoured: Iterable[str], ignored: Collection[str] = ()
    ) -> list[str]:
        """Refuse what would change the answer, or might; what was left out otherwise, by name.

        found: the fields that are not among those `honoured`. ignored: names that the settings
        let pass.

        Raises:
            InvalidParameter: naming the first field that cannot be left out.
        """
        passed_over = []
        for name, value in found.items():
            neutral = self.own.get(name, NEUTRAL.get(name, FORMS.get(name)))
            if value is None or name in HARMLESS or name in self.harmless:
                continue
            if name in ignored:
                passed_over.append(name)
            elif neutral is not None:
                if value not in neutral:
                    raise InvalidParameter(_unsupported(name), param=name)
            elif self.refuse_unknown:
                raise InvalidParameter(_unknown(name, honoured), param=name)
            else:
                passed_over.append(name)
        return passed_over


def _unsupported(name: str) -> str:
    instead = f"; {INSTEAD[name]} is" if name in INSTEAD else ""
    return f"{name} is not supported here{instead}"


def _unknown(name: str, honoured: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(honoured), n=1, cutoff=0.75)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"{name[:64]!r} is not a field that is known here{meant}"
