from pathlib import Path

from waypost.net.machine import own_addresses

TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
     |-- 192.0.2.0
        /24 link UNICAST
     |-- 192.0.2.17
        /32 host LOCAL
     |-- 192.0.2.255
        /32 link BROADCAST
"""


def test_the_machines_own_addresses_are_those_the_kernel_calls_local(tmp_path: Path) -> None:
    ipv4, ipv6 = tmp_path / "fib_trie", tmp_path / "if_inet6"
    ipv4.write_text(TRIE)
    ipv6.write_text("20010db8000000000000000000000017 02 40 00 80     eth0\n")

    assert own_addresses(ipv4, ipv6) == {"127.0.0.1", "::1", "192.0.2.17", "2001:db8::17"}


def test_loopback_is_our_own_even_where_the_kernel_tells_nothing(tmp_path: Path) -> None:
    assert own_addresses(tmp_path / "none", tmp_path / "none") == {"127.0.0.1", "::1"}


def test_this_machine_has_loopback() -> None:
    assert "127.0.0.1" in own_addresses()
