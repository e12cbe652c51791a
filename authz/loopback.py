"""Which hosts are this machine, so that what is sent there passes nobody: the one answer for all who ask."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address


def is_loopback(host: str) -> bool:
    """Tell whether a host, an IPv6 address without its brackets, cannot leave this machine; in doubt it can.

    `is_loopback` of IPv6 addresses differs between versions of Python: `::ffff:127.0.0.1` is one from 3.13 on.
    """
    if host == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback if isinstance(address, IPv4Address) else address == IPv6Address("::1")
