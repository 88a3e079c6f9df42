"""How much a key may ask for: requests and tokens a minute, each a bucket that refills steadily.

A request is paid when it comes; tokens as they are read and written, so that a bucket may be
overdrawn by what runs already, and the next request waits until that is paid back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from nsedge.security.keyring import ApiKey
from nsedge.web.errors import Refusal, Refused

MINUTE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What a key may have in a minute; 0 is no limit."""

    requests: int = 0
    tokens: int = 0


@dataclass(slots=True)
class Bucket:
    """A minute's worth, full at first; below zero after an overdraft."""

    per_minute: int
    level: float
    seen_s: float

    def look(self, now_s: float) -> float:
        """What is in it now."""
        if now_s > self.seen_s:
            gained = (now_s - self.seen_s) * self.per_minute / MINUTE_S
            self.level = min(float(self.per_minute), self.level + gained)
            self.seen_s = now_s
        return self.level

    def short_s(self, wanted: float, now_s: float) -> float:
        """Seconds until `wanted` is in it; 0 where it is."""
        lacking = min(wanted, float(self.per_minute)) - self.look(now_s)
        return max(0.0, lacking * MINUTE_S / self.per_minute)


class Account:
    """One key's buckets."""

    def __init__(self, rate: Rate, now_s: float) -> None:
        self.rate = rate
        self._requests = _bucket(rate.requests, now_s)
        self._tokens = _bucket(rate.tokens, now_s)

    def open(self, now_s: float) -> None:
        """Pay for a request.

        Raises:
            Refused: rate_limited, and when to come back; nothing is paid then.
        """
        for what, bucket in (("requests", self._requests), ("tokens", self._tokens)):
            if bucket is not None and (short_s := bucket.short_s(1.0, now_s)) > 0:
                raise Refused(
                    Refusal(
                        code="rate_limited",
                        message=f"this key may have {bucket.per_minute} {what} a minute",
                        retryable=True,
                        retry_after_s=short_s,
                    )
                )
        if self._requests is not None:
            self._requests.level -= 1.0

    def charge(self, tokens: int, now_s: float) -> None:
        """Pay for tokens that were read or written."""
        if self._tokens is not None:
            self._tokens.look(now_s)
            self._tokens.level -= tokens

    def headers(self, now_s: float) -> dict[str, str]:
        """What is left, by the names that OpenAI's clients know; resets in seconds."""
        told = {}
        for what, bucket in (("requests", self._requests), ("tokens", self._tokens)):
            if bucket is None:
                continue
            left = max(0, math.floor(bucket.look(now_s)))
            told[f"X-RateLimit-Limit-{what.title()}"] = str(bucket.per_minute)
            told[f"X-RateLimit-Remaining-{what.title()}"] = str(left)
            reset_s = bucket.short_s(float(bucket.per_minute), now_s)
            told[f"X-RateLimit-Reset-{what.title()}"] = f"{reset_s:.3f}s"
        return told


class Accounts:
    """The accounts of all keys by name; one whose rate has changed begins anew."""

    def __init__(self, default: Rate, clock: Callable[[], float]) -> None:
        self._default = default
        self._clock = clock
        self._accounts: dict[str, Account] = {}

    def of(self, name: str, key: ApiKey | None) -> Account:
        """The account of `name`; a key's own rates go before the settings'."""
        rate = self._default
        if key is not None:
            requests, tokens = key.requests_per_minute, key.tokens_per_minute
            rate = Rate(
                requests=rate.requests if requests is None else requests,
                tokens=rate.tokens if tokens is None else tokens,
            )
        account = self._accounts.get(name)
        if account is None or account.rate != rate:
            account = self._accounts[name] = Account(rate, self._clock())
        return account


def _bucket(per_minute: int, now_s: float) -> Bucket | None:
    return Bucket(per_minute, float(per_minute), now_s) if per_minute else None
