"""Amounts of memory, of the host and of a device, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Amount:
    """Bytes of the host's memory and of the device's."""

    host: int = 0
    device: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.host + other.host, self.device + other.device)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.host - other.host, self.device - other.device)


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that are left, below zero where more is taken than may be; None is without bound."""

    host: int | None = None
    device: int | None = None

    def holds(self, amount: Amount) -> bool:
        """Whether `amount` fits."""
        return (self.host is None or amount.host <= self.host) and (
            self.device is None or amount.device <= self.device
        )

    def grown(self, amount: Amount) -> Room:
        """The room once `amount` has left."""
        return Room(
            None if self.host is None else self.host + amount.host,
            None if self.device is None else self.device + amount.device,
        )
