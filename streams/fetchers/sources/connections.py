"""Watches the connections of one download: where they lead, and that they end in time.

A redirect may lead to any public address. It leads to a private one (this machine, the local network) only if the
user named that service himself: otherwise a feed could have services read that only this machine can reach.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable
from typing import Any, Self

import httpx

from schemas.errors import BadConfiguration, RetryLater

Trace = Callable[[str, dict[str, Any]], None]
"""The `trace` extension of httpx: called with the name of an event and what is known of it."""

_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_IPV4_MASK = 2**32 - 1


class Connections:
    """The connections of one download; leaving the context closes what is kept of them.

    Args:
        named: The address that the user gave.
        total_s: Time for everything, seconds; then connections are shut down, whatever they are waiting for.
    """

    def __init__(self, named: httpx.URL, total_s: float) -> None:
        self._named = named
        self._total_s = total_s
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._is_over = False
        self._timer = threading.Timer(total_s, self._shut_down)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            for each in self._sockets:
                each.close()
            self._sockets.clear()

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return self._is_over

    def check_time(self) -> None:
        """Raise if the time is up.

        Raises:
            RetryLater: It is.
        """
        if self._is_over:
            raise RetryLater(f"not done after {self._total_s:.0f} s")

    def trace_of(self, url: httpx.URL) -> Trace:
        """The trace of a request to a URL: it checks each connection before anything is sent over it."""
        dialled = ""

        def trace(event: str, info: dict[str, Any]) -> None:
            nonlocal dialled
            if event.endswith("connect_tcp.started"):
                dialled = str(info["host"])
            elif event.endswith("connect_tcp.complete"):
                stream = info["return_value"]
                self._keep(stream.get_extra_info("socket"))
                through_proxy = dialled != url.raw_host.decode("ascii")
                address = url.host if through_proxy else str(stream.get_extra_info("server_addr")[0])
                if not is_same_service(self._named, url) and not is_public(address):
                    stream.close()
                    raise self._refused(url, address)

        return trace

    def _refused(self, url: httpx.URL, address: str) -> BadConfiguration:
        return BadConfiguration(
            f"{_shown(self._named)} redirects to {_shown(url)}, which is at the private address {address}: "
            "it is not followed; if you mean that service, give its address as the source"
        )

    def _keep(self, connection: socket.socket) -> None:
        """Keep a second handle of a connection: shutting that down ends the first, with TLS or without."""
        with self._lock:
            self._sockets.append(connection.dup())
        if self._is_over:
            self._shut_down()

    def _shut_down(self) -> None:
        self._is_over = True
        with self._lock:
            for each in self._sockets:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)


def is_same_service(named: httpx.URL, url: httpx.URL) -> bool:
    """Whether two addresses are the same host and port; `http` on its port and `https` on its are the same, too."""
    places = [(each.host, each.port or _PORTS.get(each.scheme)) for each in (named, url)]
    upgraded = [(named.host, _PORTS["http"]), (named.host, _PORTS["https"])]
    return places[0] == places[1] or places == upgraded


def is_public(address: str) -> bool:
    """Whether an address is reachable from anywhere.

    Args:
        address: An IP address; a name (of a request through a proxy, which looks it up) counts as public, except
            `localhost`.

    >>> [is_public(a) for a in ("1.1.1.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "localhost")]
    [True, False, False, False, False, False]
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address.rstrip(".").rpartition(".")[2] != "localhost"
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & _IPV4_MASK)
        return found.is_global if inner is None else inner.is_global
    return found.is_global


def _shown(url: httpx.URL) -> str:
    """A URL without user, password, query and fragment."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))
