"""The address rule, applied to the address that a connection is made to, never to a name.

A name can resolve to anything at any time, so looking at names or URLs proves nothing (go-containerregistry#2440). Here the name is
resolved once, every address is judged, and the connection goes to an address that was judged. Three groups:

* never: unspecified, multicast, reserved, link-local, and the metadata services of clouds wherever they live. No registry is there,
  and what a metadata service answers is worth more than any image.
* near: loopback, and private networks (RFC 1918, unique local, carrier-grade NAT). Registries on private networks are normal, so a host
  that the *user* named may be near. A host that a *server* named (by a redirect, a token realm) may be as near as that server itself and no
  nearer: a public registry cannot make us talk to the private network, a private one cannot make us talk to loopback services, and
  a private registry with a private store behind it works. Each step of a chain of redirects is judged by the server that made it.
* public: everything else.

Plain HTTP that is allowed only because the name says loopback is held to loopback addresses.

The rule is checked again each time a kept connection is used, because it may have been opened for someone who may do more.
Addresses that embed an IPv4 address (mapped, NAT64, 6to4) are judged by that one.

Not handled: the resolver's own time; `getaddrinfo` cannot be given a deadline.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from contextvars import ContextVar
from enum import IntEnum
from typing import Any, Final

from sigkit.errors import AddressRefused, Place, TimedOut, Unreachable

CONNECT_S: Final = 10.0  # a SYN is sent again after 1, 3 and 7 s: three attempts fit
READ_S: Final = 30.0  # between two bytes; registries answer slowly while they fetch from upstream

_IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Nearness(IntEnum):
    """How near an address is. A server may name hosts up to its own nearness."""

    PUBLIC = 0
    PRIVATE = 1
    LOOPBACK = 2


_METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure's host service, a public address
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # Google Cloud
    )
)
_SHARED: Final = ipaddress.ip_network("100.64.0.0/10")  # RFC 6598
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052


def nearness_of(address: str) -> Nearness | None:
    """Judge one numeric address; None means never."""
    ip = _embedded(ipaddress.ip_address(address.partition("%")[0]))
    if ip.is_loopback:
        return Nearness.LOOPBACK
    if ip.is_unspecified or ip.is_multicast or ip.is_link_local or ip in _METADATA:
        return None
    if ip.version == 4 and (ip.is_reserved or ip in ipaddress.ip_network("0.0.0.0/8")):
        return None
    if ip.is_private or ip in _SHARED or (isinstance(ip, ipaddress.IPv6Address) and ip.is_site_local):
        return Nearness.PRIVATE
    return Nearness.PUBLIC


def _embedded(ip: _IPAddress) -> _IPAddress:
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return ip.ipv4_mapped
        if ip.sixtofour:
            return ip.sixtofour
        if ip in _NAT64 or (int(ip) >> 32 == 0 and int(ip) > 1):  # the second: IPv4-compatible, RFC 4291 §2.5.5.1
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip


def is_address(host: str) -> bool:
    """Tell whether a host is an IP address, without brackets."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_plain_address(host: str) -> bool:
    """Tell whether a host is the address of one interface: none that stands for any, and none of IPv4 written as one of IPv6."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return not address.is_unspecified and not (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped)


def is_loopback_name(host: str) -> bool:
    """Tell whether a host is loopback by its name alone: the only hosts that plain HTTP is used for unasked."""
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 section 6.3
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # Of IPv4 written as IPv6 (::ffff:127.0.0.1) the answer depends on the version of Python: 3.13 changed it.
    return address.is_loopback and is_plain_address(host)


class Deadline:
    """A moment, by the monotonic clock, after which an operation has failed."""

    __slots__ = ("_at", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._at = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left; zero or less when there are none."""
        return self._at - time.monotonic()


class Guard:
    """What the sockets of one request are held to, and how near its server turned out to be."""

    __slots__ = ("allowed", "deadline", "met", "own", "read_s")

    def __init__(self, allowed: frozenset[Nearness], deadline: Deadline, read_s: float = READ_S, own: frozenset[str] = frozenset()) -> None:
        self.allowed = allowed
        self.own = own
        self.deadline = deadline
        self.read_s = read_s
        self.met: Nearness | None = None

    def __enter__(self) -> None:
        _GUARD.set(self)

    def __exit__(self, *_: object) -> None:
        _GUARD.set(None)

    def lets(self, address: str, nearness: Nearness | None) -> bool:
        """Tell whether a connection to this address, which is so near, is allowed."""
        return nearness in self.allowed or address in self.own

    def wait_s(self, most_s: float) -> float:
        """Return how long a single wait may take.

        Raises:
            TimeoutError: the operation's deadline has passed.
        """
        left = self.deadline.left()
        if left <= 0:
            raise TimeoutError("the deadline of the operation has passed")
        return min(left, most_s)


_GUARD: ContextVar[Guard | None] = ContextVar("sigkit_net_guard", default=None)


def _guard() -> Guard:
    guard = _GUARD.get()
    if guard is None:
        raise AssertionError("a socket of sigkit.net is used outside of a request")
    return guard


class Guarded:
    """Mixed into socket classes: every wait on them obeys the guard of the request that this thread is busy with.

    A time-out of the socket alone bounds the wait for one byte, so a server that drips could hold us for days, even inside the headers.
    """

    _nearness: Nearness | None = None

    def arm(self: Any) -> None:
        """Set the time-out of the next wait, and judge the address again."""
        guard = _guard()
        if self._nearness is None:
            self._nearness = nearness_of(self.getpeername()[0])
        if not guard.lets(self.getpeername()[0], self._nearness):
            raise _refused(self.getpeername()[0], self._nearness, Place(self.getpeername()[0]))
        guard.met = self._nearness
        self.settimeout(guard.wait_s(guard.read_s))

    def recv_into(self: Any, *args: Any) -> int:  # noqa: ANN401 # as the standard library calls it
        """Receive, within the guard's limits."""
        self.arm()
        return int(super().recv_into(*args))  # type: ignore[misc]

    def sendall(self: Any, *args: Any) -> None:  # noqa: ANN401 # as the standard library calls it
        """Send, within the guard's limits."""
        self.arm()
        super().sendall(*args)  # type: ignore[misc]


class GuardedSocket(Guarded, socket.socket):
    """A TCP connection."""


def connect(host: str, port: int) -> GuardedSocket:
    """Connect to the first address of `host` that the current guard allows and that answers.

    Raises:
        AddressRefused: (NET) no address of the host is allowed; nothing was sent to any of them.
        Unreachable, TimedOut: (UNAVAIL) no allowed address answers.
    """
    guard = _guard()
    place = Place(f"{host}:{port}")
    addresses = _resolve(host, port, place)
    judged = [(family, address, nearness_of(address[0])) for family, address in addresses]
    allowed = [(family, address) for family, address, nearness in judged if guard.lets(address[0], nearness)]
    if not allowed:
        raise _refused(judged[0][1][0], judged[0][2], place)
    problem = ""
    for family, address in allowed:
        sock = GuardedSocket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(guard.wait_s(CONNECT_S))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except TimeoutError:
            sock.close()
            problem = "no answer in time"
        except OSError as err:
            sock.close()
            problem = err.strerror or str(err)
    if guard.deadline.left() <= 0:
        raise TimedOut(f"no connection within {guard.deadline.seconds:g} s", place=place)
    raise Unreachable(f"cannot connect: {problem}", place=place, remedy="check the address, the port, and that the service runs there")


def _resolve(host: str, port: int, place: Place) -> tuple[tuple[int, Any], ...]:
    try:
        # As bytes: from text, Python imports its codec for international names first, and the host of a URL is ASCII.
        found = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as err:
        raise Unreachable(f"the host name does not resolve: {getattr(err, 'strerror', err)}", place=place) from err
    addresses = tuple((family, address) for family, _, _, _, address in found if family in {socket.AF_INET, socket.AF_INET6})
    if not addresses:
        raise Unreachable("the host name resolves to no IP address", place=place)
    return addresses


def _refused(address: str, nearness: Nearness | None, place: Place) -> AddressRefused:
    if nearness is None:
        return AddressRefused("link-local, metadata, multicast and reserved addresses are never used", place=place, got=address)
    return AddressRefused(
        f"a {nearness.name.lower()} address may not be used here",
        place=place,
        expected="an address as public as the server that pointed to it",
        got=address,
        remedy="name that host yourself if it is the right one",
    )
