"""Prompts to ids, and what is refused before any engine sees it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from nsedge.api import (
    AdaptiveP,
    Chat,
    Dry,
    DynamicTemperature,
    Generate,
    Message,
    Mirostat,
    PromptReading,
    Role,
    SamplerStep,
    Sampling,
    Xtc,
)
from nsedge.bundle.causal_lm import GenerationDefaults
from nsedge.bundle.manifest import Bundle
from nsedge.errors import (
    BundleInvalid,
    ContextExceeded,
    EmptyPrompt,
    InvalidParameter,
    InvalidRequest,
)
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.row import SamplerRow
from nsedge.runtime.hosting.admission import fit_max_tokens
from nsedge.runtime.hosting.settling import settle
from nsedge.runtime.text.prompt import PromptReader
from tests.unit.bundles import TEMPLATE, tokenizer, write_bundle


def reader(path: Path, *, add_bos: bool = False, template: str | None = TEMPLATE) -> PromptReader:
    bundle = Bundle.open(write_bundle(path / "tiny", add_bos=add_bos, template=template))
    return PromptReader(bundle, tokenizer())


def chat(*turns: tuple[str, str]) -> Chat:
    return Chat(messages=tuple(Message(role=Role(r), content=c) for r, c in turns))


def text_of(ids: tuple[int, ...]) -> str:
    return str(tokenizer().decode(list(ids), skip_special_tokens=False))


def test_text_is_taken_as_it_stands(tmp_path: Path) -> None:
    ids = reader(tmp_path).read(Generate(text="<|user|>hé"))
    assert text_of(ids) == "<|user|>hé"
    assert len(ids) == 4


def test_text_begins_with_bos_where_the_bundle_says_so(tmp_path: Path) -> None:
    read = reader(tmp_path, add_bos=True).read
    assert text_of(read(Generate(text="hi"))) == "<|begin|>hi"
    assert text_of(read(Generate(text="<|begin|>hi"))) == "<|begin|>hi"


def test_messages_go_through_the_template(tmp_path: Path) -> None:
    ids = reader(tmp_path, add_bos=True).read(chat(("system", "be brief"), ("user", "hi\n")))
    assert text_of(ids) == "<|system|>be brief<|end|><|user|>hi\n<|end|><|assistant|>"


def test_marks_for_training_change_nothing(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    )
    assert text_of(reader(tmp_path, template=template).read(chat(("user", "hi")))) == "hi"


def test_a_template_that_is_none_damns_the_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleInvalid, match="the chat template cannot be read"):
        reader(tmp_path, template="{% for %}")


def test_the_template_is_sandboxed(tmp_path: Path) -> None:
    hostile = reader(tmp_path, template="{{ messages.__class__.__mro__ }}")
    with pytest.raises(InvalidRequest, match="chat template"):
        hostile.read(chat(("user", "hi")))


@pytest.mark.parametrize(
    ("prompt", "error"),
    [
        (Generate(text=""), EmptyPrompt),
        (Chat(messages=()), EmptyPrompt),
        (chat(("tool", "x")), InvalidRequest),
        (Generate(text="a\ud800b"), InvalidParameter),
    ],
)
def test_what_cannot_be_read_is_refused(
    tmp_path: Path, prompt: Chat | Generate, error: type[Exception]
) -> None:
    with pytest.raises(error):
        reader(tmp_path).read(prompt)


@pytest.mark.parametrize(
    ("prompt", "param"),
    [(Generate(text="hi extra"), "prompt"), (chat(("user", "hi extra")), "messages")],
)
def test_a_token_that_the_model_does_not_have_is_refused_by_name(
    tmp_path: Path, prompt: Chat | Generate, param: str
) -> None:
    bundle = Bundle.open(write_bundle(tmp_path / "tiny"))
    larger = tokenizer()
    unknown = bundle.manifest.vocab_size
    fillers = [f"<|filler {i}|>" for i in range(larger.get_vocab_size(), unknown)]
    larger.add_special_tokens(fillers)
    larger.add_tokens(["extra"])
    read = PromptReader(bundle, larger).read
    assert read(Generate(text=fillers[-1])) == (unknown - 1,)
    with pytest.raises(InvalidParameter, match=rf"token {unknown} \('extra'\)") as caught:
        read(prompt)
    assert caught.value.param == param


def test_messages_need_a_template(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="no chat template"):
        reader(tmp_path, template=None).read(chat(("user", "hi")))


@pytest.mark.parametrize(
    ("prompt_tokens", "sampling", "expected"),
    [
        (10, Sampling(), 90),
        (10, Sampling(max_tokens=5), 5),
        (10, Sampling(max_tokens=90), 90),
        (10, Sampling(max_tokens=500, clip_max_tokens=True), 90),
        (99, Sampling(), 1),
    ],
)
def test_max_tokens_fits_the_context(prompt_tokens: int, sampling: Sampling, expected: int) -> None:
    assert fit_max_tokens(prompt_tokens, sampling, 100) == expected


@pytest.mark.parametrize(
    ("prompt_tokens", "sampling", "message"),
    [
        (100, Sampling(), "the prompt has 100 tokens; the context holds 100"),
        (100, Sampling(max_tokens=1, clip_max_tokens=True), "the prompt has 100 tokens"),
        (10, Sampling(max_tokens=91), "lower max_tokens to 90, or set clip_max_tokens"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_limit(
    prompt_tokens: int, sampling: Sampling, message: str
) -> None:
    with pytest.raises(ContextExceeded, match=message):
        fit_max_tokens(prompt_tokens, sampling, 100)


def test_min_tokens_must_fit_too() -> None:
    with pytest.raises(InvalidParameter, match="min_tokens 95 is above the 90 tokens"):
        fit_max_tokens(10, Sampling(min_tokens=95), 100)


def test_the_request_overrides_the_bundle_value_by_value() -> None:
    defaults = GenerationDefaults(temperature=0.2, top_p=0.9, top_k=40)
    assert settle(Sampling(), defaults) == SamplingParams(temperature=0.2, top_p=0.9, top_k=40)
    assert settle(Sampling(temperature=0.0, top_k=0), defaults) == SamplingParams(
        temperature=0.0, top_p=0.9, top_k=0
    )


FULL = Sampling(
    temperature=0.5,
    dynamic_temperature=DynamicTemperature(range=0.2),
    top_k=5,
    top_p=0.9,
    min_p=0.1,
    typical_p=0.8,
    top_n_sigma=2.0,
    xtc=Xtc(probability=0.5),
    min_keep=2,
    repetition_penalty=1.1,
    presence_penalty=0.1,
    frequency_penalty=0.2,
    penalty_last_n=64,
    dry=Dry(multiplier=0.8),
    no_repeat_ngram_size=3,
    adaptive_p=AdaptiveP(target=0.4),
)


def test_every_parameter_reaches_the_row() -> None:
    names = [field.name for field in dataclasses.fields(SamplingParams)]
    settled = settle(FULL, GenerationDefaults())
    for name in set(names) - {"order", "mirostat"}:
        assert getattr(settled, name) == getattr(FULL, name), name


def test_steps_that_an_order_leaves_out_are_off_and_so_are_the_bundles() -> None:
    order = (SamplerStep.TOP_P, SamplerStep.DRY)
    settled = settle(
        dataclasses.replace(FULL, samplers=order), GenerationDefaults(top_k=40, typical_p=0.5)
    )
    assert settled == SamplingParams(
        top_p=0.9,
        dry=FULL.dry,
        min_keep=2,
        penalty_last_n=64,
        no_repeat_ngram_size=3,
        order=order,
    )


def test_mirostat_takes_the_place_of_filters() -> None:
    held = Mirostat(tau=3.0)
    settled = settle(dataclasses.replace(FULL, mirostat=held), GenerationDefaults())
    assert settled == SamplingParams(
        temperature=0.5,
        dynamic_temperature=FULL.dynamic_temperature,
        repetition_penalty=1.1,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        penalty_last_n=64,
        dry=FULL.dry,
        no_repeat_ngram_size=3,
        mirostat=held,
    )


@pytest.mark.parametrize(
    "off",
    [
        Sampling(dynamic_temperature=DynamicTemperature(range=0.0)),
        Sampling(xtc=Xtc(probability=0.0)),
        Sampling(dry=Dry(multiplier=0.0)),
        Sampling(dry=Dry(multiplier=1.0, penalty_last_n=0)),
        Sampling(adaptive_p=AdaptiveP(target=-1.0)),
        Sampling(top_n_sigma=-1.0),
    ],
)
def test_what_is_off_costs_nothing(off: Sampling) -> None:
    row = SamplerRow(settle(off, GenerationDefaults()), prompt_ids=[1, 2])
    assert not row.width
    assert not row.edited
    assert row.memory is None


def test_bad_words_are_spelt_as_they_begin_and_as_they_follow_a_space(tmp_path: Path) -> None:
    spelt = reader(tmp_path).spellings
    assert [text_of(ids) for ids in spelt(["hi", " yo"])] == ["hi", " hi", "yo", " yo"]
    assert spelt(["hi", "hi"]) == spelt(["hi"])
    assert [text_of(ids) for ids in spelt([" "])] == [" ", "  "]
    with pytest.raises(InvalidParameter, match="lone surrogate") as caught:
        spelt(["\ud800"])
    assert caught.value.param == "bad_words"


@pytest.mark.parametrize(
    ("sampling", "param"),
    [
        (Sampling(temperature=-0.1), "temperature"),
        (Sampling(temperature=float("nan")), "temperature"),
        (Sampling(top_p=-0.1), "top_p"),
        (Sampling(top_p=1.1), "top_p"),
        (Sampling(min_p=2.0), "min_p"),
        (Sampling(top_k=-1), "top_k"),
        (Sampling(repetition_penalty=0.0), "repetition_penalty"),
        (Sampling(presence_penalty=3.0), "presence_penalty"),
        (Sampling(frequency_penalty=-3.0), "frequency_penalty"),
        (Sampling(seed=-1), "seed"),
        (Sampling(max_tokens=0), "max_tokens"),
        (Sampling(max_tokens=3, min_tokens=4), "min_tokens"),
        (Sampling(stop=("",)), "stop"),
        (Sampling(stop=("x",) * 17), "stop"),
        (Sampling(stop=("x" * 257,)), "stop"),
        (Sampling(logit_bias={5: 101.0}), "logit_bias"),
        (Sampling(typical_p=1.1), "typical_p"),
        (Sampling(top_n_sigma=-2.0), "top_n_sigma"),
        (Sampling(min_keep=-1), "min_keep"),
        (Sampling(penalty_last_n=-2), "penalty_last_n"),
        (Sampling(no_repeat_ngram_size=-1), "no_repeat_ngram_size"),
        (Sampling(allowed_token_ids=()), "allowed_token_ids"),
        (Sampling(banned_token_ids=(1,) * 65_537), "banned_token_ids"),
        (Sampling(stop_token_ids=(1,) * 257), "stop_token_ids"),
        (Sampling(bad_words=("",)), "bad_words"),
        (Sampling(bad_words=("x",) * 257), "bad_words"),
        (Sampling(dynamic_temperature=DynamicTemperature(range=-1)), "dynamic_temperature.range"),
        (
            Sampling(dynamic_temperature=DynamicTemperature(range=1, exponent=-1)),
            "dynamic_temperature.exponent",
        ),
        (Sampling(xtc=Xtc(probability=1.5)), "xtc.probability"),
        (Sampling(xtc=Xtc(probability=1, threshold=-1)), "xtc.threshold"),
        (Sampling(dry=Dry(multiplier=-1)), "dry.multiplier"),
        (Sampling(dry=Dry(multiplier=1, base=0.5)), "dry.base"),
        (Sampling(dry=Dry(multiplier=1, allowed_length=0)), "dry.allowed_length"),
        (Sampling(dry=Dry(multiplier=1, penalty_last_n=-2)), "dry.penalty_last_n"),
        (Sampling(dry=Dry(multiplier=1, sequence_breakers=("",))), "dry.sequence_breakers"),
        (Sampling(mirostat=Mirostat(tau=-1)), "mirostat.tau"),
        (Sampling(mirostat=Mirostat(eta=float("nan"))), "mirostat.eta"),
        (Sampling(adaptive_p=AdaptiveP(target=1.5)), "adaptive_p.target"),
        (Sampling(adaptive_p=AdaptiveP(target=0.5, decay=1.0)), "adaptive_p.decay"),
        (Sampling(samplers=(SamplerStep.TOP_K, SamplerStep.TOP_K)), "samplers"),
    ],
)
def test_values_out_of_range_are_named(sampling: Sampling, param: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        sampling.check()
    assert caught.value.param == param


def test_a_prompt_is_shown_as_it_is_read(tmp_path: Path) -> None:
    read = reader(tmp_path, add_bos=True)
    shown = read.reading(chat(("user", "hi <|end|>")))
    assert shown.text == "<|user|>hi <|end|><|end|><|assistant|>"
    assert shown.token_ids == read.read(chat(("user", "hi <|end|>")))
    assert read.reading(Generate(text="")) == PromptReading(text="", token_ids=())
    with_begin = read.reading(Generate(text="hi"))
    assert (with_begin.text, text_of(with_begin.token_ids)) == ("hi", "<|begin|>hi")
    assert text_of(read.reading(Generate(text="hi"), add_special=False).token_ids) == "hi"


def test_names_of_tokens_are_tokens_or_text(tmp_path: Path) -> None:
    read = reader(tmp_path)
    task = Generate(text="<|user|>x")
    assert len(read.reading(task).token_ids) == 2
    literal = read.reading(task, parse_special=False).token_ids
    assert len(literal) == len("<|user|>x")
    assert read.text_of(literal) == read.text_of(read.read(task)) == "<|user|>x"
    assert read.text_of(()) == ""
    with pytest.raises(InvalidParameter, match="token 999999 is none of the"):
        read.text_of((0, 999_999))


def test_tokens_are_taken_as_they_are(tmp_path: Path) -> None:
    read = reader(tmp_path, add_bos=True)
    ids = read.read(Generate(text="hi"))[1:]
    shown = read.reading(Generate(token_ids=ids))
    assert (shown.text, shown.token_ids) == ("hi", ids)
    with pytest.raises(EmptyPrompt):
        read.read(Generate(token_ids=()))
    with pytest.raises(InvalidParameter, match=r"^token 300 is none of the 300 of the vocabulary"):
        read.read(Generate(token_ids=(300,)))


@pytest.mark.parametrize(
    "task",
    [
        Generate(text="a", token_ids=(1,)),
        Generate(suffix="a", token_ids=(1,)),
        Generate(token_ids=(-1,)),
        Generate(token_ids=(2**31,)),
    ],
)
def test_tokens_that_cannot_be_a_prompt(task: Generate) -> None:
    with pytest.raises(InvalidParameter) as caught:
        task.check()
    assert caught.value.param == "token_ids"
