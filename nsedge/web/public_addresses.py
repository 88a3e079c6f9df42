"""Which addresses are on the public internet, and nowhere near us; pure.

An address is public where it is on no list of exceptions, and not where the standard library of
this Python happens to know it for private: of IPv6 only 2000::/3 is handed out at all, which leaves
out loopback, link-local, unique local, multicast, IPv4-mapped and NAT64 addresses by itself.
"""

from __future__ import annotations

import ipaddress

_V4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
            *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24"),
            *("192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
            *("224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32"),
        ),
    )
)
"""IANA's special-purpose IPv4 addresses (RFC 6890), multicast, and the one public address that a
cloud (Azure) has its machines' own services at."""
_V6_UNICAST = ipaddress.IPv6Network("2000::/3")
_V6 = tuple(
    map(
        ipaddress.IPv6Network,
        # Of protocols, Teredo among them; documentation; 6to4, which has an IPv4 address in it.
        ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
)


def is_public(address: str) -> bool:
    """Whether `address`, as an IP address is written, is public; what is none is not."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(known, ipaddress.IPv4Address):
        return not any(known in network for network in _V4)
    if known.scope_id is not None or known not in _V6_UNICAST:
        return False
    return not any(known in network for network in _V6)
