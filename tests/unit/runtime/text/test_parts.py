"""Pictures in prompts: where they stand, by parts or by markers, and through which templates."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsedge.api import Chat, Media, MediaPart, Message, Role, TextPart
from nsedge.bundle.manifest import Bundle
from nsedge.errors import InvalidParameter, InvalidRequest
from nsedge.runtime.text.parts import in_parts, parted
from nsedge.runtime.text.prompt import PromptReader
from nsedge.runtime.text.sight import Sight, Stand
from nsedge.runtime.vision.taken import Written
from tests.unit.bundles import tokenizer, write_bundle

MARKER = "<|user|>"
"""Any special token will do: the tiny tokenizer has none for pictures."""
IN_PARTS = (
    "{% for m in messages %}[{{ m.role }}]{% for c in m.content %}"
    "{% if c.type == 'image' %}<|user|>{% else %}{{ c.text }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}[a]{% endif %}"
)
BOTH = (
    "{% for m in messages %}[{{ m.role }}]{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for c in m.content %}{% if c.type == 'image' %}<|user|>{% else %}{{ c.text }}{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}{% if add_generation_prompt %}[a]{% endif %}"
)
AS_TEXT = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[a]"
USER_ALONE = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}[a]"
)
PICTURE, FRAME = Media(type="image/png", data=b"x"), Media(type="image/png", data=b"y")
FILM = MediaPart(media=Media(type="video/mp4", data=b"z"), frames=7)


def reader(path: Path, template: str, *, add_bos: bool = False) -> PromptReader:
    token_id = tokenizer().token_to_id(MARKER)
    sight = Sight(
        marker=MARKER,
        token=MARKER,
        token_id=token_id,
        written=lambda media: Written(text=f"({MARKER * (2 if media is FRAME else 3)})"),
        film=lambda part: ["at 0 ", FRAME, " at 1 ", PICTURE, f" of {part.frames}"],
    )
    bundle = Bundle.open(write_bundle(path / "tiny", template=template, add_bos=add_bos))
    return PromptReader(bundle, tokenizer(), sight=sight)


def said(*parts: str | Media | MediaPart, role: Role = Role.USER) -> Message:
    return Message(
        role=role,
        content=tuple(
            TextPart(text=one)
            if isinstance(one, str)
            else one
            if isinstance(one, MediaPart)
            else MediaPart(media=one)
            for one in parts
        ),
    )


def look(reading: PromptReader, *turns: Message) -> tuple[str, list[tuple[int, ...]]]:
    ids, shown = reading.look(Chat(messages=turns))
    text = str(tokenizer().decode(list(ids), skip_special_tokens=False))
    return text.replace(MARKER, "#"), [one.places for one in shown]


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        (IN_PARTS, "[user]see(###)this[assistant]so[a]"),
        (BOTH, "[user]see(###)this[assistant]so[a]"),
        (AS_TEXT, "[user]see\n(###)\nthis[assistant]so[a]"),
    ],
)
def test_pictures_stand_where_their_parts_do(tmp_path: Path, template: str, wanted: str) -> None:
    turns = said("see", PICTURE, "this"), Message(role=Role.ASSISTANT, content="so")
    text, places = look(reader(tmp_path, template), *turns)
    assert text == wanted
    first = text.index("#")
    assert places == [(first, first + 1, first + 2)]


def test_markers_of_the_client_are_places_where_there_are_as_many(tmp_path: Path) -> None:
    reading = reader(tmp_path, AS_TEXT)
    marked = said(PICTURE, f"one {MARKER}, two {MARKER}", PICTURE)
    text, places = look(reading, marked)
    assert text == "[user]one (###), two (###)[a]"
    assert len(places) == 2
    with pytest.raises(InvalidParameter, match=r"messages\[1\]: its text has .* 1 times.* 2 pict"):
        look(reading, said("a"), said(f"one {MARKER}", PICTURE, PICTURE))


def test_a_marker_that_was_said_is_text(tmp_path: Path) -> None:
    reading = reader(tmp_path, BOTH)
    ids, shown = reading.look(Chat(messages=(said(f"a {MARKER} tag"),)))
    assert tokenizer().token_to_id(MARKER) not in ids
    assert shown == ()
    text, places = look(reading, said(f"a {MARKER} tag"), said(PICTURE))
    assert text == "[user]a # tag[user](###)[a]"
    assert len(places) == 1
    assert places[0][0] == len(text.encode()) - len("###)[a]") + len(MARKER) - 1


def test_a_template_without_a_place_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="places for 1 of the 2 pictures"):
        look(reader(tmp_path, USER_ALONE), said(PICTURE), said(PICTURE, role=Role.SYSTEM))


def test_sound_is_not_seen_and_places_cannot_be_said(tmp_path: Path) -> None:
    reading = reader(tmp_path, BOTH)
    sound = Media(type="audio/wav", data=b"x")
    with pytest.raises(
        InvalidParameter, match="reads text, pictures and films, and takes no audio/wav"
    ):
        look(reading, said(sound))
    with pytest.raises(InvalidParameter, match=r"messages\[0\]: U\+FDD3"):
        look(reading, said("\ufdd3", PICTURE))


def test_bos_stands_before_what_a_template_renders(tmp_path: Path) -> None:
    text, places = look(reader(tmp_path, BOTH, add_bos=True), said(PICTURE))
    assert text == "<|begin|>[user](###)[a]"
    ids, _ = reader(tmp_path / "other", BOTH).look(Chat(messages=(said("a"),)))
    assert places == [(8, 9, 10)]
    assert ids[0] != tokenizer().token_to_id("<|begin|>")


def test_the_last_message_is_continued_in_parts(tmp_path: Path) -> None:
    task = Chat(
        messages=(said(PICTURE, "go"), Message(role=Role.ASSISTANT, content="It is")),
        continue_final_message=True,
    )
    assert reader(tmp_path, IN_PARTS).rendered(task).endswith("[assistant]It is")


def test_line_ends_beside_a_place_are_the_parts_own() -> None:
    place = "\ufdd3"
    assert in_parts(f"a\n{place}\n\nb{place}") == [
        {"type": "text", "text": "a"},
        {"type": "image"},
        {"type": "text", "text": "\nb"},
        {"type": "image"},
    ]
    turns = [{"role": "user", "content": "a"}, {"role": "tool", "content": None}]
    assert parted(turns, all_of_them=False) == turns
    assert parted(turns, all_of_them=True)[0]["content"] == [{"type": "text", "text": "a"}]


def test_a_film_stands_as_texts_and_frames_each_with_its_places(tmp_path: Path) -> None:
    text, places = look(reader(tmp_path, IN_PARTS), said("see", FILM, PICTURE, "this"))
    assert text == "[user]seeat 0 (##) at 1 (###) of 7(###)this[a]"
    assert [len(each) for each in places] == [2, 3, 3]
    in_order = [place for each in places for place in each]
    assert in_order == sorted(in_order)


def hearing(path: Path) -> PromptReader:
    """Of a model whose markers have numbers, and that hears."""
    ids = {name: tokenizer().token_to_id(name) for name in (MARKER, "<|begin|>")}
    sight = Sight(
        marker="<|image_{n}|>",
        token=MARKER,
        token_id=ids[MARKER],
        written=lambda media: Written(text=MARKER * 3),
        film=lambda part: [PICTURE],
        sound=Stand(
            marker="<|audio_{n}|>",
            token="<|begin|>",
            token_id=ids["<|begin|>"],
            written=lambda media: Written(text="<|begin|>" * 2),
        ),
        beside="",
    )
    bundle = Bundle.open(write_bundle(path / "tiny", template=AS_TEXT))
    return PromptReader(bundle, tokenizer(), sight=sight)


SOUND = Media(type="audio/wav", data=b"x")


def test_sounds_and_pictures_stand_where_parts_or_numbered_markers_do(tmp_path: Path) -> None:
    reading = hearing(tmp_path)
    text, places = look(reading, said(SOUND, PICTURE, "this", SOUND))
    assert text == "[user]<|begin|><|begin|>###this<|begin|><|begin|>[a]"
    assert [len(each) for each in places] == [2, 3, 2]
    assert places == sorted(places)
    marked = said("<|audio_1|><|image_1|>this<|audio_2|>", SOUND, PICTURE, SOUND)
    assert look(reading, marked) == (text, places)
    again = look(reading, said(PICTURE, SOUND), said("<|audio_2|> or <|image_2|>", PICTURE, SOUND))
    assert again == look(reading, said(PICTURE, SOUND), said(SOUND, " or ", PICTURE))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<|image_1|>", "has <.audio_{n}.> 0 times, and it holds 1 sounds"),
        ("<|image_1|><|audio_1|><|audio_2|>", "has <.audio_{n}.> 2 times"),
        ("<|image_2|><|audio_1|>", "numbers pictures 2; they count in order, from 1 on"),
        ("\ufdd4", r"U\+FDD4 is in its text"),
    ],
)
def test_markers_that_do_not_fit_the_media_are_refused(
    text: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidParameter, match=told):
        look(hearing(tmp_path), said(text, PICTURE, SOUND))
