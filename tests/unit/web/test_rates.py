"""Requests and tokens a minute: buckets called with values, and a key held to them at the shim."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from nsedge.security import keyring
from nsedge.security.keyring import ApiKey, KeyRing, Scope
from nsedge.security.watched_file import WatchedFile
from nsedge.web.errors import Refused
from nsedge.web.limits import WebLimits
from nsedge.web.rates import Account, Accounts, Rate
from tests.fakes import MODEL, FakeClock
from tests.web_server import Answer, Shim, ask, error_of, served

CHAT = "/v1/chat/completions"


def body(words: int) -> dict[str, object]:
    return {"model": MODEL, "messages": [{"role": "user", "content": " ".join(["word"] * words)}]}


def opened(account: Account, now_s: float) -> float:
    """Seconds to wait; 0 where the request was let through."""
    try:
        account.open(now_s)
    except Refused as error:
        return error.refusal.retry_after_s if error.refusal.retryable else math.inf
    return 0.0


def test_requests_come_back_steadily() -> None:
    account = Account(Rate(requests=60), 0.0)
    assert [opened(account, 0.0) for _ in range(61)] == [0.0] * 60 + [1.0]
    assert opened(account, 0.5) == pytest.approx(0.5)
    assert opened(account, 1.0) == 0.0
    assert opened(account, 1000.0) == 0.0
    assert account.headers(1000.0)["X-RateLimit-Remaining-Requests"] == "59"


def test_tokens_may_be_overdrawn_and_are_paid_back() -> None:
    account = Account(Rate(tokens=600), 0.0)
    assert opened(account, 0.0) == 0.0
    account.charge(900, 0.0)
    assert opened(account, 0.0) == pytest.approx(30.1)
    assert opened(account, 30.0) == pytest.approx(0.1)
    assert opened(account, 30.2) == 0.0


def test_a_refused_request_costs_nothing() -> None:
    account = Account(Rate(requests=10, tokens=60), 0.0)
    account.charge(120, 0.0)
    for _ in range(5):
        assert opened(account, 0.0) > 0
    assert account.headers(0.0)["X-RateLimit-Remaining-Requests"] == "10"


def test_without_a_rate_there_is_no_limit_and_no_header() -> None:
    account = Account(Rate(), 0.0)
    account.charge(10**12, 0.0)
    assert opened(account, 0.0) == 0.0
    assert account.headers(0.0) == {}


def test_a_clock_that_stands_still_gives_nothing_back() -> None:
    account = Account(Rate(requests=1), 10.0)
    account.open(10.0)
    assert opened(account, 9.0) == pytest.approx(60.0)


def test_a_keys_own_rates_go_first_and_a_changed_one_begins_anew() -> None:
    clock = FakeClock()
    accounts = Accounts(Rate(requests=5, tokens=7), clock)

    def api_key(**own: int) -> ApiKey:
        return ApiKey(name="a", sha256="0" * 64, scopes=(Scope.INFER,), **own)

    assert accounts.of("a", None).rate == Rate(requests=5, tokens=7)
    assert accounts.of("b", api_key(tokens_per_minute=0)).rate == Rate(requests=5, tokens=0)
    first = accounts.of("c", api_key(requests_per_minute=1))
    first.open(clock())
    assert accounts.of("c", api_key(requests_per_minute=1)) is first
    assert opened(accounts.of("c", api_key(requests_per_minute=2)), clock()) == 0.0


@pytest.fixture
def keys(tmp_path: Path) -> WatchedFile[KeyRing]:
    path = tmp_path / "keys.json"

    def api_key(name: str, **rates: int) -> ApiKey:
        scopes = (Scope.INFER, Scope.READ)
        return ApiKey(name=name, sha256=keyring.digest_of(name), scopes=scopes, **rates)

    few = api_key("few", requests_per_minute=2)
    little = api_key("little", tokens_per_minute=20)
    keyring.write(path, KeyRing(api=(few, little, api_key("free"))))
    return WatchedFile(path, keyring.read)


async def sent(shim: Shim, key: str, words: int = 1, **fields: object) -> Answer:
    bearer = f"Bearer {key}"
    return await ask(shim.port, "POST", CHAT, body(words) | fields, authorization=bearer)


def test_a_key_has_its_requests_and_others_have_theirs(keys: WatchedFile[KeyRing]) -> None:
    clock = FakeClock()

    async def test(shim: Shim) -> None:
        assert [(await sent(shim, "few")).status for _ in range(2)] == [200, 200]
        refused = await sent(shim, "few")
        assert refused.status == 429
        assert error_of(refused)["code"] == "rate_limit_exceeded"
        assert error_of(refused)["type"] == "rate_limit_error"
        assert (refused.headers["x-should-retry"], refused.headers["retry-after"]) == ("true", "30")
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        free = await sent(shim, "free")
        assert free.status == 200
        assert "x-ratelimit-limit-requests" not in free.headers
        clock.advance(30.0)
        again = await sent(shim, "few", stream=True)
        assert again.status == 200
        assert again.headers["x-ratelimit-limit-requests"] == "2"

    served(test, keys=keys, clock=clock)


def test_a_key_has_its_tokens_read_and_written(keys: WatchedFile[KeyRing]) -> None:
    clock = FakeClock()

    async def test(shim: Shim) -> None:
        first = await sent(shim, "little", words=12)
        assert first.json["usage"]["total_tokens"] == 24  # type: ignore[index]
        refused = await sent(shim, "little")
        assert refused.status == 429
        assert "20 tokens a minute" in error_of(refused)["message"]
        clock.advance(16.0)
        assert (await sent(shim, "little")).status == 200

    served(test, keys=keys, clock=clock)


def test_without_keys_all_share_one_account() -> None:
    async def test(shim: Shim) -> None:
        assert (await ask(shim.port, "POST", CHAT, body(1))).status == 200
        assert (await ask(shim.port, "POST", CHAT, body(1))).status == 429
        assert (await ask(shim.port, "GET", "/live")).status == 200

    served(test, limits=WebLimits(requests_per_minute=1), clock=FakeClock())
