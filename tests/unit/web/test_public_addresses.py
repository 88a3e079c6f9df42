"""Addresses that are public, and all the ways in which others are written."""

from __future__ import annotations

import pytest

from nsedge.web.public_addresses import is_public


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "223.255.255.254", "2606:4700:4700::1111", "2a00::1"]
)
def test_public_ones(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.8.8.8", "169.254.169.254"),
        *("172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.168.1.1", "198.18.0.1"),
        *("198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "255.255.255.255"),
        "168.63.129.16",
        *("::", "::1", "::ffff:127.0.0.1", "::ffff:1.1.1.1", "::1.1.1.1", "64:ff9b::7f00:1"),
        *(
            "64:ff9b::101:101",
            "64:ff9b:1::1",
            "fe80::1",
            "fe80::1%eth0",
            "fc00::1",
            "fd00:ec2::254",
        ),
        *("ff02::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "5f00::1", "100::1"),
        *("2606:4700::1%1", "localhost", "", "127.1", "0x7f000001", "2130706433", "1.1.1.1/32"),
    ],
)
def test_others(address: str) -> None:
    assert not is_public(address)
