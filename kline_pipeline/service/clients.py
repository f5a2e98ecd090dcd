"""Who has sent a request: the peer of the connection, or whom a trusted proxy names; what comes of it is elsewhere.

X-Forwarded-For is written by anybody: only what a trusted proxy has appended to it counts, from the right end on.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

_Address = IPv4Address | IPv6Address
_HOST_BITS: Final = 64  # of IPv6: who has one address has all of its network
_MOST_HOPS: Final = 32  # that are looked at


class Clients:
    """Tells clients apart.

    Args:
        trusted_proxies: addresses or networks of proxies.

    Raises:
        ValueError: one is none.
    """

    def __init__(self, trusted_proxies: Sequence[str] = ()) -> None:
        self._trusted: list[IPv4Network | IPv6Network] = [ip_network(text) for text in trusted_proxies]

    def client(self, peer: str | None, forwarded_for: Iterable[str] = ()) -> str:
        """Return the name of a client: an IPv4 address, the network of an IPv6 address, or "local" of a Unix socket.

        Args:
            peer: the address at the other end of the connection, None for a Unix socket.
            forwarded_for: the X-Forwarded-For headers in the order received.
        """
        address = _address(peer or "")
        if address is None:
            return "local"
        hops = ",".join(forwarded_for).rsplit(",", _MOST_HOPS)[-_MOST_HOPS:] if self._is_trusted(address) else []
        named = address
        for hop in reversed([hop.strip() for hop in hops if hop.strip()]):
            found = _address(hop)
            if found is None:  # no proxy of ours writes that
                return _name(address)
            named = found
            if not self._is_trusted(found):
                break
        return _name(named)

    def _is_trusted(self, address: _Address) -> bool:
        return any(address in network for network in self._trusted)


def _address(text: str) -> _Address | None:
    """Return the address of 192.0.2.1, 192.0.2.1:80, 2001:db8::1 or [2001:db8::1]:80; None of anything else."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _name(address: _Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((address, _HOST_BITS), strict=False))
