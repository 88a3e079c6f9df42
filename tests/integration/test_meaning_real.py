"""Small models that learned for a minute tell what pictures show that they have not seen."""

from __future__ import annotations

import pytest

from exporters.cache import Cache, cache_root
from exporters.meaning import captioner, vqa
from exporters.meaning.clip import measure
from exporters.meaning.small_clip import SHORT
from exporters.progress import Progress

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


def test_what_it_tells_is_right() -> None:
    found = measure(Cache(cache_root(), Progress(None)), SHORT, most=300)
    assert found.passed, found
    assert {one.variant for one in found.found} == {"cpu-int8-b64", "cpu-fp32"}
    assert all(one.colour.pictures > 200 and one.shape.pictures > 200 for one in found.found)


@pytest.mark.timeout(1800)
def test_what_a_captioner_writes_is_right() -> None:
    found = captioner.measure(Cache(cache_root(), Progress(None)), captioner.SHORT, most=300)
    assert found.passed, found
    assert {one.variant for one in found.found} >= {"cpu-int8-b64", "cpu-fp32"}
    assert all(one.colour.pictures > 200 and one.shape.pictures > 200 for one in found.found)
    # Not by chance: there are eight colours. Of shapes, less is learnt in so few steps.
    assert min(one.colour.right for one in found.found) > 0.8


def test_what_a_tuned_model_that_sees_answers_is_right() -> None:
    found = vqa.measure(Cache(cache_root(), Progress(None)), vqa.SHORT)
    assert found.passed, found
    assert {one.variant for one in found.found} == {"cpu-int8-native", "cpu-int8", "cpu-fp32"}
    # Not by chance: what is got without a picture, and by the base without its eyes.
    assert max(found.usual, found.blind, found.before) < found.demanded
