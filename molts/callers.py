"""Who calls, for whatever is counted by address."""

from __future__ import annotations

import ipaddress


def subscriber(address: str) -> str:
    """What one subscriber is given counts as one: an address of IPv4, a network of IPv6, of which each has 2⁶⁴
    addresses to change between."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return address
