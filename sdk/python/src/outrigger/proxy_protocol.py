"""How an app's TCP connections carry the key that they are pinned by: in a header of the PROXY protocol, version 2.

The sidecar's listener needs `protocol = "tcp"`, `proxy_protocol = true` and the app's address in `trusted_cidrs`.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

from .connection import build
from .errors import InvalidArgument

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_PROXY = 0x21
_UNSPECIFIED, _TCP4, _TCP6 = 0x00, 0x11, 0x21
# A kind of TLV that is free for applications: the affinity key.
_AFFINITY = 0xE0
_MAX_KEY = 256


def proxy_header(key: str, source: Any, destination: Any) -> bytes:
    """What to send before anything else on a connection that is to go to the backend of this key, of 1 to 256 bytes:

        connection.sendall(proxy_header(key, connection.getsockname(), connection.getpeername()))

    The addresses are as Python's sockets have them, and tell the sidecar and the backend who speaks to whom: `source`
    may be whoever the app speaks for. Those of unix sockets say nothing.
    """
    value = build(key.encode)
    if not 1 <= len(value) <= _MAX_KEY:
        raise InvalidArgument(f"key must have 1..={_MAX_KEY} bytes, got {len(value)}")
    family, addresses = _addresses(source, destination)
    rest = addresses + struct.pack("!BH", _AFFINITY, len(value)) + value
    return _SIGNATURE + struct.pack("!BBH", _PROXY, family, len(rest)) + rest


def _addresses(source: Any, destination: Any) -> tuple[int, bytes]:
    """The byte for their family, and the addresses with their ports."""
    if not (isinstance(source, tuple) and isinstance(destination, tuple)):
        return _UNSPECIFIED, b""
    hosts = [_host(source), _host(destination)]
    ports = _port(source) + _port(destination)
    if all(isinstance(host, ipaddress.IPv4Address) for host in hosts):
        return _TCP4, b"".join(host.packed for host in hosts) + ports
    return _TCP6, b"".join(_mapped(host).packed for host in hosts) + ports


def _host(address: tuple[Any, ...]) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        # The zone of a link-local address means nothing elsewhere.
        return ipaddress.ip_address(str(address[0]).partition("%")[0])
    except ValueError as error:
        raise InvalidArgument(f"host must be an IP address, got {address[0]!r}") from error


def _port(address: tuple[Any, ...]) -> bytes:
    if not 0 <= address[1] <= 65535:
        raise InvalidArgument(f"port must be 0..=65535, got {address[1]}")
    return struct.pack("!H", address[1])


def _mapped(host: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv6Address:
    if isinstance(host, ipaddress.IPv6Address):
        return host
    return ipaddress.IPv6Address(f"::ffff:{host}")
