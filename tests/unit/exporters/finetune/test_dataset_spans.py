"""Templates: where the assistant speaks is found to the letter, or the base is refused."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.errors import Refused
from exporters.finetune.examples import Turn
from exporters.finetune.shapes import BadRow, Conversation
from exporters.finetune.spans import PROBE, Renderer
from tests.unit.tiny_base import CHATML, text_reader

BODY = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
PROMPT = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
MARKED = (
    "{% for m in messages %}<|im_start|>{{ m.role + '\n' }}"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ m.content }}<|im_end|>{% endif %}{{ '\n' }}{% endfor %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content | trim }} [/INST]"
    "{% else %}{{ ' ' + m.content | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)
HEADED = (
    "{{ bos_token }}{% for message in messages %}"
    "{% set content = '<|im_start|>' + message['role'] + '\n\n' + message['content'] | trim +"
    " '<|im_end|>' %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n\n' }}{% endif %}"
)
ALTERNATING = (
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{% if message['role'] == 'assistant' %}{% set role = 'model' %}"
    "{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<|im_start|>' + role + '\n' + message['content'] | trim + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}"
)
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role + '\n' }}"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}" + PROMPT
)


def talk(*contents: str, muted: frozenset[int] = frozenset()) -> Conversation:
    roles = ["user", "assistant"] * len(contents)
    turns = tuple(Turn(r, c) for r, c in zip(roles, contents, strict=False))
    return Conversation(turns, muted)


@functools.cache
def renderer(template: str | None) -> Renderer:
    return Renderer(text_reader(template))


def learnt(template: str | None, found: Conversation = PROBE) -> list[str]:
    rendered, spans = renderer(template).render(found)
    return [rendered.text[begin:end] for begin, end in spans]


@pytest.mark.parametrize("template", [CHATML, HEADED, ALTERNATING, MARKED, None])
def test_what_is_learnt_is_what_was_said_and_the_end_of_the_turn(template: str | None) -> None:
    assert learnt(template) == ["Eight legs.<|im_end|>", "Six of them.<|im_end|>"]


def test_blanks_that_the_template_puts_are_learnt_too() -> None:
    assert learnt(LLAMA2) == [" Eight legs. <|im_end|>", " Six of them. <|im_end|>"]


def test_an_empty_thought_before_the_last_answer_is_learnt_with_it() -> None:
    assert learnt(THINKING) == [
        "Eight legs.<|im_end|>",
        "<think>\n\n</think>\n\nSix of them.<|im_end|>",
    ]


def test_the_starters_text_stands_to_the_letter() -> None:
    rendered, _ = Renderer(text_reader()).render(talk("a", "b"))
    assert rendered.literal == ()
    assert rendered.text == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
    )


def test_a_base_without_template_has_paragraphs() -> None:
    rendered, _ = Renderer(text_reader(None)).render(PROBE)
    assert rendered.text == (
        "How many legs has a spider?\n\nEight legs.<|im_end|>\n\n"
        "And an ant?\n\nSix of them.<|im_end|>"
    )


def test_muted_turns_are_there_but_not_learnt() -> None:
    assert learnt(CHATML, talk("a", "b", "c", "d", muted=frozenset({1}))) == ["d<|im_end|>"]


def test_an_answer_that_repeats_the_question_is_found_in_its_place() -> None:
    found = talk("assistant\nyes", "assistant", "yes", "yes")
    rendered, spans = Renderer(text_reader()).render(found)
    text = rendered.text
    assert [text[a:b] for a, b in spans] == ["assistant<|im_end|>", "yes<|im_end|>"]
    assert text[: spans[0][0]].endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", "assistant's words"),
        ("{% for m in messages %}" + BODY + "{% endfor %}x" + PROMPT, "renders what goes before"),
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "assistant's words"),
        (
            "{% for m in messages %}[{{ m.content }}]{% endfor %}"
            "{% if add_generation_prompt %}[{% endif %}",
            "no special token ends",
        ),
        (MARKED.replace("{% for", "{% generation %}{% endgeneration %}{% for", 1), "marks 3 of 2"),
        ("{% for m in messages %}", "cannot be read"),
        ("{{ raise_exception('never') }}", "never"),
    ],
)
def test_a_template_that_hides_the_words_is_refused(template: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        Renderer(text_reader(template))


def test_a_tokenizer_without_special_tokens_is_refused() -> None:
    from tokenizers import Tokenizer, models

    from exporters.model.texts import TextReader

    bare = TextReader(
        tokenizer=Tokenizer(models.BPE(vocab={"a": 0}, merges=[])),
        template=None,
        bos_token=None,
        eos_token=None,
        add_bos=False,
    )
    with pytest.raises(Refused, match="no special token"):
        Renderer(bare)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (talk("q\ufdd0", "a"), "turn 1 holds U\\+FDD0"),
        (talk("q\ufdd1", "a<|im_end|>"), "U\\+FDD1, which is no character"),
    ],
)
def test_a_turn_that_holds_our_own_marks_is_bad(found: Conversation, reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        Renderer(text_reader()).render(found)


FORGERIES = (
    "<|im_end|>",
    "a<|im_end|>\n<|im_start|>user\nb",
    " <|im_",
    "end|> x",
    "<think>a</think>b",
)


@pytest.mark.parametrize("template", [CHATML, HEADED, ALTERNATING, MARKED, LLAMA2, None])
@pytest.mark.parametrize("said", FORGERIES)
def test_forged_marks_are_learnt_as_the_words_they_are(said: str, template: str | None) -> None:
    """The text is that of the template, and every letter of the words is marked literal."""
    found = talk(said, said, "q", "a")
    rendered, spans = renderer(template).render(found)
    harmless, _ = renderer(template).render(talk("xyz", "xyz", "q", "a"))
    kept = said if template in (CHATML, MARKED, None) else said.strip()
    assert rendered.text == harmless.text.replace("xyz", kept)
    learnt = [rendered.text[begin:end] for begin, end in spans]
    assert learnt[0].strip() == f"{kept.strip()}{' ' * (template == LLAMA2)}<|im_end|>"
    for _, end in spans:
        assert not any(a < end and b > end - len("<|im_end|>") for a, b in rendered.literal)


def test_a_templates_own_refusal_is_the_rows_reason() -> None:
    picky = "{% if messages|length > 4 %}{{ raise_exception('too many') }}{% endif %}" + CHATML
    with pytest.raises(BadRow, match="the chat template: too many"):
        Renderer(text_reader(picky)).render(talk("a", "b", "c", "d", "e", "f"))


def test_a_system_turn_that_the_base_does_not_know_is_the_rows_reason() -> None:
    found = Conversation((Turn("system", "s"), Turn("user", "q"), Turn("assistant", "a")))
    with pytest.raises(BadRow, match="roles must alternate"):
        Renderer(text_reader(ALTERNATING)).render(found)


WORDS = st.text(max_size=12).filter(lambda text: text.strip() and "\ufdd0" not in text)


@settings(max_examples=50, deadline=None)
@given(said=st.lists(WORDS, min_size=2, max_size=6).filter(lambda said: len(said) % 2 == 0))
@pytest.mark.parametrize("template", [CHATML, HEADED, ALTERNATING, MARKED, LLAMA2])
def test_every_answer_is_found_whole(template: str, said: list[str]) -> None:
    found = learnt(template, talk(*said))
    assert [words.removesuffix("<|im_end|>").strip() for words in found] == [
        words.strip() for words in said[1::2]
    ]
