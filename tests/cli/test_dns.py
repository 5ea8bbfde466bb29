"""What `colony dns dnsmasq` prints, asked of a real dnsmasq."""

import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.core.routing.caddies import free_port

from .conftest import Command

DEADLINE_SECONDS = 120.0
A, AAAA = 1, 28
NO_ERROR, REFUSED = 0, 5


@contextmanager
def running_dnsmasq(folder: Path, settings: str) -> Iterator[None]:
    file = folder / "dns.conf"
    file.write_text(settings)
    command = [
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=" + str(file),
        "--pid-file=",
        "--user=",
        "--log-facility=-",
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield
        finally:
            process.kill()


def ask(port: int, name: str, kind: int) -> tuple[int, list[str]]:
    """Status and addresses that a DNS server answers with (RFC 1035)."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    question = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + labels + struct.pack(">HH", kind, 1)
    until = time.monotonic() + DEADLINE_SECONDS
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.settimeout(0.2)
        line.connect(("127.0.0.1", port))
        while True:
            try:
                line.send(question)
                answer = line.recv(4096)
                break
            except OSError:  # it has not begun yet
                assert time.monotonic() < until
                time.sleep(0.02)
    _, flags, _, count, _, _ = struct.unpack_from(">HHHHHH", answer)
    at, found = len(question), []
    for _ in range(count):
        kind_of, _, _, size = struct.unpack_from(">HHIH", answer, at + 2)
        found.append(
            socket.inet_ntop(socket.AF_INET if kind_of == A else socket.AF_INET6, answer[at + 12 : at + 12 + size])
        )
        at += 12 + size
    return flags & 15, found


@pytest.mark.dnsmasq
def test_a_dnsmasq_that_was_told_so_finds_every_preview_and_nothing_else(colony: Command, tmp_path: Path) -> None:
    port = free_port()
    done = colony("dns", "dnsmasq", "--port", str(port), COLONY_ROUTING__DOMAIN="colony.local")
    assert done.code == 0
    assert "belong to multicast DNS" in done.err
    with running_dnsmasq(tmp_path, done.out):
        for name in ("web.hello.colony.local", "hello-4001.colony.local", "colony.local"):
            assert ask(port, name, A) == (NO_ERROR, ["127.0.0.1"])
            assert ask(port, name, AAAA) == (NO_ERROR, [])
        assert ask(port, "example.org", A) == (REFUSED, [])


@pytest.mark.dnsmasq
def test_lines_for_a_dnsmasq_that_does_more_are_good_lines(colony: Command, tmp_path: Path) -> None:
    done = colony("dns", "dnsmasq", "--address", "2001:db8::7", COLONY_ROUTING__BIND="0.0.0.0")
    assert done.out == "address=/colony.localhost/2001:db8::7\nlocal=/colony.localhost/\n"
    port = free_port()
    more = (
        f"port={port}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\naddress=/other.test/192.0.2.1\n"
    )
    with running_dnsmasq(tmp_path, done.out + more):
        assert ask(port, "web.hello.colony.localhost", AAAA) == (NO_ERROR, ["2001:db8::7"])
        assert ask(port, "x.other.test", A) == (NO_ERROR, ["192.0.2.1"])


def test_previews_that_listen_everywhere_are_found_on_loopback(colony: Command) -> None:
    assert "colony.localhost/127.0.0.1\n" in colony("dns", "dnsmasq", COLONY_ROUTING__BIND="0.0.0.0").out
    assert "colony.localhost/::1\n" in colony("dns", "dnsmasq", COLONY_ROUTING__BIND="::").out
    assert "colony.localhost/192.0.2.7\n" in colony("dns", "dnsmasq", COLONY_ROUTING__BIND="192.0.2.7").out


def test_what_is_no_address_is_refused(colony: Command) -> None:
    done = colony("dns", "dnsmasq", "--address", "here")
    assert (done.code, done.out) == (2, "")
    assert "'here' is no address" in done.err
