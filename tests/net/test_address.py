"""Judging addresses, name and number alike."""

from __future__ import annotations

import ipaddress
import random

import pytest

from sigkit.net.address import Nearness, is_loopback_name, nearness_of


@pytest.mark.parametrize(
    ("address", "nearness"),
    [
        ("8.8.8.8", Nearness.PUBLIC),
        ("2606:4700::1111", Nearness.PUBLIC),
        ("10.1.2.3", Nearness.PRIVATE),
        ("172.31.255.255", Nearness.PRIVATE),
        ("192.168.0.1", Nearness.PRIVATE),
        ("100.64.0.1", Nearness.PRIVATE),
        ("fd12:3456::1", Nearness.PRIVATE),
        ("127.0.0.1", Nearness.LOOPBACK),
        ("127.255.255.254", Nearness.LOOPBACK),
        ("::1", Nearness.LOOPBACK),
        ("::ffff:127.0.0.1", Nearness.LOOPBACK),
        ("::ffff:8.8.8.8", Nearness.PUBLIC),
        ("64:ff9b::a00:1", Nearness.PRIVATE),
        ("2002:a00:1::1", Nearness.PRIVATE),
        ("0.0.0.0", None),
        ("0.1.2.3", None),
        ("::", None),
        ("169.254.0.1", None),
        ("169.254.169.254", None),
        ("fe80::1", None),
        ("fe80::1%eth0", None),
        ("224.0.0.1", None),
        ("ff02::1", None),
        ("240.0.0.1", None),
        ("255.255.255.255", None),
        ("100.100.100.200", None),
        ("168.63.129.16", None),
        ("fd00:ec2::254", None),
        ("::ffff:169.254.169.254", None),
        ("64:ff9b::a9fe:a9fe", None),
        ("::169.254.169.254", None),
    ],
)
def test_an_address_is_judged(address, nearness):
    assert nearness_of(address) is nearness


def test_wrapping_an_ipv4_address_in_ipv6_changes_nothing():
    chance = random.Random(4)  # noqa: S311 # repeatable
    for _ in range(2_000):
        plain = ipaddress.IPv4Address(chance.getrandbits(32))
        wrapped = [f"::ffff:{plain}", str(ipaddress.IPv6Address(0x64FF9B << 96 | int(plain)))]
        assert {nearness_of(text) for text in wrapped} == {nearness_of(str(plain))}


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_is_known_by_name(host):
    assert is_loopback_name(host)


@pytest.mark.parametrize("host", ["localhost.example", "127.0.0.1.example", "10.0.0.1", "registry.example", "0.0.0.0"])
def test_what_only_looks_like_loopback_is_not(host):
    assert not is_loopback_name(host)
