"""Rows with pictures: where these stand, which are refused, and what training reads."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tokenizers import AddedToken

from exporters.errors import ExportError, Refused
from exporters.finetune.batches import padded, tokenise
from exporters.finetune.dataset import Made, make_dataset
from exporters.finetune.examples import Example, read_examples
from exporters.finetune.making import DatasetOrder
from exporters.finetune.pictures import MAX_BYTES, conversation_of
from exporters.finetune.report import dataset_lines
from exporters.finetune.shapes import BadRow, Shape
from exporters.model.source import Source
from exporters.model.vision_lm import VisionSource
from exporters.progress import Progress
from nsedge.runtime.text.parts import PLACE
from tests.unit.tiny_base import CONTEXT, base_source, tokenizer

SIDE, PATCH = 32, 8
ROWS = (SIDE // PATCH) ** 2
TOKEN = "<image>"
LLAVA = (
    "{% for message in messages %}{% if message['role'] != 'system' %}"
    "{{ message['role'].upper() + ': '}}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}"
    "{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] + ' '}}{% endfor %}{% else %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
"""That of llava-hf/llava-1.5-7b-hf: pictures first, and no token ends a turn."""
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def seeing(folder: Path, template: str = CHATML, **changes: Any) -> VisionSource:
    """A LLaVA's folder without weights."""
    folder.mkdir(parents=True)
    known = tokenizer()
    known.add_special_tokens([AddedToken(TOKEN, special=True, normalized=False)])
    known.save(str(folder / "tokenizer.json"))
    config = {
        "model_type": "llava",
        "architectures": ["LlavaForConditionalGeneration"],
        "image_token_id": known.token_to_id(TOKEN),
        "vision_config": {
            "model_type": "clip_vision_model",
            "image_size": SIDE,
            "patch_size": PATCH,
        },
        "text_config": {"model_type": "llama", "max_position_embeddings": CONTEXT},
    }
    (folder / "config.json").write_text(json.dumps(config | changes))
    prepared = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": SIDE},
        "crop_size": SIDE,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    (folder / "chat_template.jinja").write_text(template)
    return VisionSource(folder=folder, origin="tiny")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> VisionSource:
    return seeing(tmp_path_factory.mktemp("base") / "tiny")


def png(colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 40), colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pics").mkdir()
    for colour in ("red", "blue", "green"):
        (tmp_path / "pics" / f"{colour}.png").write_bytes(png(colour))
    return tmp_path


def asked(*parts: Any, answer: str = "red") -> dict[str, Any]:
    content = [{"type": "text", "text": one} if isinstance(one, str) else one for one in parts]
    return {
        "messages": [
            {"role": "user", "content": content},
            {"role": "assistant", "content": answer},
        ]
    }


def shown(name: str) -> dict[str, str]:
    return {"type": "image", "image": f"pics/{name}.png"}


def make(base: Source, folder: Path, rows: list[Any], **options: Any) -> Made:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    order = {"output": folder / "train.jsonl", "validation": 0.0} | options
    return make_dataset(DatasetOrder(inputs=(path,), base=base, **order), Progress(None))


def examples(folder: Path) -> list[Example]:
    return list(read_examples(folder / "train.jsonl"))


FORMS = {
    "image": asked(shown("red"), "Which?"),
    "path": asked({"type": "image", "path": "pics/red.png"}, "Which?"),
    "url": asked({"type": "image_url", "image_url": {"url": "pics/red.png"}}, "Which?"),
    "beside, with a place": {**asked({"type": "image"}, "Which?"), "images": ["pics/red.png"]},
    "beside, before what is said": {**asked("Which?"), "image": "pics/red.png"},
    "beside, at the marker": {**asked(f"{TOKEN}\nWhich?"), "images": ["pics/red.png"]},
    "LLaVA": {
        "image": "pics/red.png",
        "conversations": [
            {"from": "human", "value": f"{TOKEN}\nWhich?"},
            {"from": "gpt", "value": "red"},
        ],
    },
    "prompt": {"prompt": "Which?", "completion": "red", "images": ["pics/red.png"]},
    "marked": asked("Which?", shown("red"))
    | {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": f"{TOKEN}\nWhich?"}, shown("red")],
            },
            {"role": "assistant", "content": "red"},
        ]
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_every_way_to_name_a_picture_comes_to_the_same(
    form: str, base: VisionSource, folder: Path
) -> None:
    make(base, folder, [FORMS[form]])
    (found,) = examples(folder)
    assert found.text == (
        f"<|im_start|>user\n{TOKEN * ROWS}Which?<|im_end|>\n<|im_start|>assistant\nred<|im_end|>\n"
    )
    assert [found.text[slice(*span)] for span in found.learn] == ["red<|im_end|>"]
    assert [one.path for one in found.pictures] == ["pics/red.png"]
    assert found.messages[0].content == f"{TOKEN}\nWhich?"


def test_pictures_stand_in_the_order_of_their_turns(base: VisionSource, folder: Path) -> None:
    row = asked(shown("red"), "and", shown("blue"), "?")
    row["messages"] += asked(shown("green"), "And here?", answer="green")["messages"]
    make(base, folder, [row], output=folder / "out" / "train.jsonl")
    (found,) = read_examples(folder / "out" / "train.jsonl")
    names = [f"../pics/{name}.png" for name in ("red", "blue", "green")]
    assert [one.path for one in found.pictures] == names
    assert found.text.count(TOKEN) == 3 * ROWS
    assert [found.text[slice(*span)] for span in found.learn] == [
        "red<|im_end|>",
        "green<|im_end|>",
    ]
    tokens = tokenise(
        [found],
        base.text_reader().control_tokens(),
        max_tokens=CONTEXT,
        picture_token=base.prompt().token_id,
    )
    (one,) = tokens.examples
    assert int((one.ids == base.prompt().token_id).sum()) == 3 * ROWS
    batch = padded([one, one])
    assert [each.path for each in batch.pictures] == names * 2


def broken(folder: Path) -> dict[str, Any]:
    (folder / "pics/cut.png").write_bytes(png()[:60])
    return asked(shown("cut"), "?")


def huge(folder: Path) -> dict[str, Any]:
    content = png()
    header = b"IHDR" + struct.pack(">II", 8001, 8000) + content[24:29]
    told = header + struct.pack(">I", zlib.crc32(header))
    (folder / "pics/huge.png").write_bytes(content[:12] + told + content[33:])
    return asked(shown("huge"), "?")


def pipe(folder: Path) -> dict[str, Any]:
    os.mkfifo(folder / "pics/pipe.png")
    return asked(shown("pipe"), "?")


def heavy(folder: Path) -> dict[str, Any]:
    with (folder / "pics/heavy.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    return asked(shown("heavy"), "?")


def text_for_a_picture(folder: Path) -> dict[str, Any]:
    (folder / "pics/notes.png").write_text("no picture")
    return asked(shown("notes"), "?")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (lambda _: asked(shown("gone"), "?"), "picture pics/gone.png: No such file or directory"),
        (lambda _: asked({"type": "image", "image": "pics"}, "?"), "picture pics: Is a directory"),
        (pipe, "picture pics/pipe.png: no file"),
        (
            lambda _: asked({"type": "image", "image": "pics/a\0b.png"}, "?"),
            "picture pics/a\\x00b.png: no path",
        ),
        (
            lambda _: asked({"type": "image", "image": "/dev/zero"}, "?"),
            "picture /dev/zero: no file",
        ),
        (broken, "picture pics/cut.png: the picture cannot be decoded: "),
        (text_for_a_picture, "picture pics/notes.png: 10 bytes are no picture in JPEG, PNG"),
        (huge, "picture pics/huge.png: a picture of 8001 x 8000 pixels; 64000000 in all"),
        (heavy, f"picture pics/heavy.png: {MAX_BYTES + 1} bytes, more than {MAX_BYTES}"),
        (
            lambda _: asked({"type": "image", "image": "https://a.b/c.png"}, "?"),
            "picture https://a.b/c.png: a path is wanted",
        ),
        (lambda _: asked({"type": "image"}, "?"), "it has a place for a picture, and names none"),
        (
            lambda _: {**asked({"type": "image"}, "?"), "images": ["pics/red.png"] * 2},
            "its turns have places for 1 pictures, and it has 2",
        ),
        (
            lambda _: {**asked(shown("red"), "?"), "images": ["pics/red.png"]},
            "it names pictures both in its turns and beside them",
        ),
        (
            lambda _: asked(shown("red"), f"{TOKEN} {TOKEN}"),
            "turn 1 says <image> 2 times, and has 1 pictures",
        ),
        (lambda _: {**asked("?"), "images": [7]}, "images is no list of paths"),
        (lambda _: asked({"type": "image", "image": 7}, "?"), "turn 1: the image of a picture"),
        (lambda _: asked(f"a{PLACE}b"), "U+FDD3 is in its text"),
        (
            lambda _: {
                "messages": [
                    {"role": "user", "content": "?"},
                    {"role": "assistant", "content": [shown("red")]},
                ]
            },
            "turn 2: only a user shows pictures",
        ),
        (lambda _: asked({"type": "audio", "audio": "a.wav"}, "?"), "turn 1 has a part that is no"),
    ],
)
def test_a_row_with_a_bad_picture_is_named_by_its_number(
    bad: Any, reason: str, base: VisionSource, folder: Path
) -> None:
    rows = [asked(shown("red"), "Which?"), bad(folder)]
    made = make(base, folder, rows)
    (dropped,) = made.report.dropped
    assert dropped.row == 2
    assert dropped.reason.startswith(reason)
    assert (made.report.train, made.report.pictures) == (1, 1)
    assert "pictures: 1" in dataset_lines(made.report, folder / "train.jsonl", up_to_date=False)
    with pytest.raises(ExportError, match="row 2: "):
        make(base, folder, rows, strict=True)


def test_a_base_without_eyes_drops_rows_with_pictures(tmp_path: Path, folder: Path) -> None:
    blind = base_source(tmp_path / "blind")
    rows = [asked("A text."), asked(shown("red"), "?"), {**asked("?"), "images": ["pics/red.png"]}]
    made = make(blind, folder, [*rows, {**asked("No picture?"), "images": []}])
    assert made.report.train == 2
    assert [(one.row, one.reason) for one in made.report.dropped] == [
        (2, "it has pictures, and the base sees none"),
        (3, "it has pictures, and the base sees none"),
    ]


def test_words_that_name_the_marker_are_words(base: VisionSource, folder: Path) -> None:
    make(base, folder, [asked(f"What is {TOKEN} in HTML?"), asked(shown("red"), "?")])
    words, picture = examples(folder)
    assert words.pictures == ()
    assert [words.text[slice(*span)] for span in words.literal] == [TOKEN]
    tokens = tokenise(
        [words, picture],
        base.text_reader().control_tokens(),
        max_tokens=CONTEXT,
        picture_token=base.prompt().token_id,
    )
    counts = [int((one.ids == base.prompt().token_id).sum()) for one in tokens.examples]
    assert counts == [0, ROWS]


def test_the_same_question_about_another_picture_is_another_row(
    base: VisionSource, folder: Path
) -> None:
    (folder / "pics/again.png").write_bytes(png("red"))
    rows = [asked(shown(name), "Which?") for name in ("red", "blue", "again")]
    made = make(base, folder, rows)
    assert made.report.train == 2
    assert [(one.row, one.reason) for one in made.report.dropped] == [(3, "the same as row 1")]


def test_a_dataset_is_made_anew_when_a_picture_comes_or_changes(
    base: VisionSource, folder: Path
) -> None:
    rows = [asked(shown("red"), "Which?"), asked(shown("late"), "Which?")]
    assert make(base, folder, rows).report.train == 1
    assert make(base, folder, rows).up_to_date
    (folder / "pics/late.png").write_bytes(png("yellow"))
    made = make(base, folder, rows)
    assert (made.up_to_date, made.report.train) == (False, 2)
    before = examples(folder)[1].pictures
    (folder / "pics/late.png").write_bytes(png("teal"))
    assert not make(base, folder, rows).up_to_date
    assert examples(folder)[1].pictures != before


def test_an_example_is_cut_behind_its_pictures_alone(base: VisionSource, folder: Path) -> None:
    long = asked(shown("red"), "Which?", answer="x" * 200)
    late = asked("w" * 60, shown("blue"), "?")
    made = make(base, folder, [long, late], max_tokens=60, truncate=True)
    assert (made.report.train, made.report.truncated) == (1, 1)
    (dropped,) = made.report.dropped
    assert (dropped.row, dropped.cause.value) == (2, "too long")
    make(base, folder, [long, late])
    found = tokenise(
        examples(folder),
        base.text_reader().control_tokens(),
        max_tokens=60,
        picture_token=base.prompt().token_id,
    )
    assert (found.cut, found.dropped) == (1, 1)
    assert [one.pictures[0].path for one in found.examples] == ["pics/red.png"]


def test_the_last_answer_of_a_template_without_ends_gets_one(tmp_path: Path, folder: Path) -> None:
    row = asked(shown("red"), "Which?")
    row["messages"] += asked("And its shape?", answer="round")["messages"]
    make(seeing(tmp_path / "llava", LLAVA), folder, [row])
    (found,) = examples(folder)
    first = f"USER: {TOKEN * ROWS}\nWhich? ASSISTANT: red "
    assert found.text == f"{first}USER: And its shape? ASSISTANT: round<|im_end|>"
    assert [found.text[slice(*span)] for span in found.learn] == ["red", "round<|im_end|>"]


def test_a_tokenizer_that_begins_texts_begins_conversations(tmp_path: Path, folder: Path) -> None:
    source = seeing(tmp_path / "tiny")
    stated = json.loads((source.folder / "tokenizer.json").read_text())
    begin = {"id": "<|endoftext|>", "type_id": 0}
    stated["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": begin}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            "<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}
        },
    }
    (source.folder / "tokenizer.json").write_text(json.dumps(stated))
    settings = {"eos_token": "<|im_end|>", "bos_token": "<|endoftext|>"}
    (source.folder / "tokenizer_config.json").write_text(json.dumps(settings))
    make(source, folder, [asked(shown("red"), "Which?")])
    (found,) = examples(folder)
    assert found.text.startswith("<|endoftext|><|im_start|>user\n<image>")
    assert [found.text[slice(*span)] for span in found.learn] == ["red<|im_end|>"]


@pytest.mark.parametrize(
    ("changes", "rows"),
    [
        ({}, ROWS),
        ({"vision_feature_select_strategy": "full"}, ROWS + 1),
        (
            {
                "vision_config": {"model_type": "siglip_vision_model", "image_size": SIDE},
                "vision_feature_select_strategy": "full",
            },
            (SIDE // 16) ** 2,
        ),
    ],
)
def test_rows_of_a_picture(changes: dict[str, Any], rows: int, tmp_path: Path) -> None:
    assert seeing(tmp_path / "tiny", **changes).rows() == rows


def test_a_family_without_a_form_is_refused_by_name(tmp_path: Path, folder: Path) -> None:
    other = seeing(
        tmp_path / "other",
        model_type="phi4mm",
        architectures=["Phi4MMForCausalLM"],
    )
    with pytest.raises(Refused, match="Phi4MMForCausalLM needs code of its own"):
        make(other, folder, [asked(shown("red"), "?")])


def test_what_is_no_row_is_told_as_of_a_base_without_eyes() -> None:
    with pytest.raises(BadRow, match="a list, not an object"):
        conversation_of([], Shape.AUTO, system=None, marker=TOKEN)


def test_rows_in_tables_name_pictures_too(base: VisionSource, folder: Path) -> None:
    path = folder / "data.csv"
    path.write_text("prompt,completion,image\nWhich?,red,pics/red.png\n")
    order = DatasetOrder(inputs=(path,), output=folder / "train.jsonl", base=base, validation=0.0)
    make_dataset(order, Progress(None))
    (found,) = examples(folder)
    assert [one.path for one in found.pictures] == ["pics/red.png"]
    assert found.text.count(TOKEN) == ROWS
