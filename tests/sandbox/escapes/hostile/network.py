"""The network, and sockets of every family."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from probes import Refused, probe, read


def _say(family: int, kind: int, address: Any, nonce: str) -> str:
    with socket.socket(family, kind) as sender:
        sender.settimeout(2)
        sender.connect(address)
        sender.sendall(nonce.encode())
    return "sent"


@probe("network", "connects to a service on the host's 127.0.0.1")
def tcp_loopback(facts):
    return _say(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", facts["tcp"]), facts["nonce"])


@probe("network", "connects to a service on the host's ::1")
def tcp_loopback_v6(facts):
    return _say(socket.AF_INET6, socket.SOCK_STREAM, ("::1", facts["tcp6"]), facts["nonce"])


@probe("network", "sends a datagram to the host (the way out over DNS)")
def udp_loopback(facts):
    return _say(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", facts["udp"]), facts["nonce"])


def _route(family: int, address: str) -> str:
    """Whether there is a way to `address`; connecting a datagram socket sends nothing."""
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.connect((address, 80))
        return f"routed from {sender.getsockname()[0]}"


@probe("network", "has a route to the Internet")
def internet_route(facts):
    return _route(socket.AF_INET, "192.0.2.1")


@probe("network", "has a route to the Internet over IPv6")
def internet_route_v6(facts):
    return _route(socket.AF_INET6, "2001:db8::1")


@probe("network", "has a route to the cloud's metadata service, 169.254.169.254")
def metadata_route(facts):
    return _route(socket.AF_INET, "169.254.169.254")


@probe("network", "listens where the host's programs reach it")
def listen_on_host(facts):
    with socket.socket() as listener:
        listener.settimeout(1.5)
        listener.bind(("127.0.0.1", facts["bind"]))
        listener.listen()
        connection, _ = listener.accept()
        connection.close()
        return "the host came"


@probe("network", "speaks to a daemon's socket by path (docker.sock)")
def docker_socket(facts):
    return _say(socket.AF_UNIX, socket.SOCK_STREAM, facts["docker"], facts["nonce"])


@probe("network", "uses the user's SSH agent")
def ssh_agent(facts):
    return _say(socket.AF_UNIX, socket.SOCK_STREAM, facts["agent"], facts["nonce"])


@probe("network", "speaks to an abstract Unix socket (X11, the session's D-Bus)")
def abstract_socket(facts):
    return _say(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + facts["abstract"], facts["nonce"])


@probe("network", "sends to a Unix datagram socket by path (the system's log)")
def datagram_socket(facts):
    return _say(socket.AF_UNIX, socket.SOCK_DGRAM, facts["datagram"], facts["nonce"])


@probe("network", "reads the host's interfaces and connections from /proc/net")
def host_interfaces(facts):
    names = [line.split(":")[0].strip() for line in read("/proc/net/dev").decode().splitlines()[2:]]
    connections = read("/proc/net/unix").decode("latin-1")
    if facts["abstract"] not in connections:
        raise Refused(f"only {','.join(names)}")
    return "sees the host's sockets"


def _socket(family: int, kind: int, protocol: int = 0) -> str:
    with socket.socket(family, kind, protocol):
        return "opened"


@probe("network", "opens a netlink socket")
def netlink(facts):
    return _socket(16, socket.SOCK_RAW)


@probe("network", "opens a vsock to the hypervisor")
def vsock(facts):
    return _socket(40, socket.SOCK_STREAM)


@probe("network", "opens a packet socket")
def packet_socket(facts):
    return _socket(17, socket.SOCK_RAW, 0x0300)


@probe("network", "opens a raw IP socket")
def raw_socket(facts):
    return _socket(socket.AF_INET, socket.SOCK_RAW, 1)


@probe("network", "opens a socket to the kernel's crypto (AF_ALG)")
def alg_socket(facts):
    return _socket(38, socket.SOCK_SEQPACKET)


@probe("network", "opens a socket of a rarely used family (TIPC, CAN, RDS, KCM, XDP, Bluetooth…)")
def rare_sockets(facts):
    for family in (3, 4, 5, 9, 15, 21, 23, 24, 29, 30, 31, 33, 35, 36, 37, 39, 41, 42, 43, 44, 45):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
            with contextlib.suppress(OSError):
                return f"family {family} {_socket(family, kind)}"
    raise Refused("none opens")
