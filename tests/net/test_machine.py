from pathlib import Path

from waypost.net.machine import own_addresses, system_servers
from waypost.net.stream import Endpoint

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


def test_the_system_servers_are_those_of_resolv_conf(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("search example.org\nnameserver 192.0.2.53\n; old\nnameserver  2001:db8::53 \nnameserver\n")
    assert system_servers(file) == (Endpoint("192.0.2.53", 53), Endpoint("2001:db8::53", 53))


def test_without_resolv_conf_this_machine_is_asked(tmp_path: Path) -> None:
    assert system_servers(tmp_path / "none") == (Endpoint("127.0.0.1", 53),)
