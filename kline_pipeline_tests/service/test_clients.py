"""Who is counted: the peer, or whom a trusted proxy names; nobody can choose by a header of one's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_pipeline.service.clients import Clients

PROXIES = ("10.0.0.0/8", "2001:db8:1::/48", "192.168.1.1")


def test_without_a_trusted_proxy_no_header_counts() -> None:
    assert Clients().client("192.0.2.1", ["203.0.113.9"]) == "192.0.2.1"
    assert Clients(PROXIES).client("192.0.2.1", ["203.0.113.9"]) == "192.0.2.1"


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (["203.0.113.9"], "203.0.113.9"),
        (["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
        (["1.1.1.1", "203.0.113.9"], "203.0.113.9"),
        (["nonsense, <script>, 203.0.113.9"], "203.0.113.9"),
        (["1.1.1.1, 203.0.113.9, 10.1.1.1, 192.168.1.1"], "203.0.113.9"),
        (["203.0.113.9:4711"], "203.0.113.9"),
        (["[2001:db8:2::7]:4711"], "2001:db8:2::/64"),
        (["2001:db8:2:0:5::7"], "2001:db8:2::/64"),
        (["::ffff:203.0.113.9"], "203.0.113.9"),
        (["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        (["203.0.113.9, nonsense"], "10.9.9.9"),
        (["203.0.113.9, 10.2.2.2, nonsense"], "10.9.9.9"),
        (["203.0.113.9, unknown, 10.2.2.2"], "10.9.9.9"),
        ([""], "10.9.9.9"),
        ([" , ,"], "10.9.9.9"),
        ([], "10.9.9.9"),
    ],
)
def test_behind_a_trusted_proxy_the_right_most_untrusted_address_counts(forwarded: list[str], client: str) -> None:
    assert Clients(PROXIES).client("10.9.9.9", forwarded) == client


@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=40), max_size=5))
def test_what_a_client_writes_before_its_proxy_changes_nothing(forged: list[str]) -> None:
    assert Clients(PROXIES).client("10.9.9.9", [*forged, "203.0.113.9"]) == "203.0.113.9"


def test_a_long_header_is_looked_at_from_the_right() -> None:
    assert Clients(PROXIES).client("10.9.9.9", ["1.1.1.1," * 5000 + "203.0.113.9"]) == "203.0.113.9"
    assert Clients(PROXIES).client("10.9.9.9", ["203.0.113.9," + "10.1.1.1," * 5000]) == "10.1.1.1"


def test_a_network_of_ipv6_is_one_client_and_a_unix_socket_too() -> None:
    assert Clients().client("2001:db8::1") == Clients().client("2001:db8::2") == "2001:db8::/64"
    assert Clients().client("fe80::1%eth0") == "fe80::/64"
    assert Clients().client(None) == "local"
