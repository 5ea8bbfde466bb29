"""What the kernel thread does to make, find and unmake a cell. Every function here runs in that thread."""

import errno
import os
import socket
import struct
import time
from contextlib import ExitStack
from pathlib import Path

import attrs

from colony_core import naming

from . import netlink, syscalls
from .addresses import FIRST_IFINDEX, Addresses, AddressPlan
from .cell import Cell, Step
from .kernel import OWN_NAMESPACE, Kernel, is_namespace

IF_INET6 = Path("/proc/net/if_inet6")
UP_SECONDS = 0.1
UP_PAUSE_SECONDS = 0.001
QUIET_IPV6 = "net/ipv6/conf/default/disable_ipv6"
"""Interfaces made from now on have no IPv6: no link-local address, no solicitations. Loopback exists already and keeps ::1."""
UNPRIVILEGED_PORTS = "net/ipv4/ip_unprivileged_port_start"
PING_GROUPS = "net/ipv4/ping_group_range"


@attrs.define
class Builder:
    """The kernel thread's hands: where names are bound, and the routing socket of the hosts' side."""

    kernel: Kernel
    plan: AddressPlan
    folder: Path | None
    """Where namespaces are bound; None binds nothing, so that they go with this process."""
    routing: socket.socket

    def build(self, name: str, at: Addresses) -> Cell:
        """A cell, verified up at both ends; whatever fails, nothing of it stays. Raises OSError (FileExistsError: the name is bound)."""
        began = time.perf_counter()
        with ExitStack() as undo:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            undo.callback(self.kernel.go_home)
            fd = os.open(OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
            undo.callback(os.close, fd)
            path = self._bind(name, fd, undo)
            bound = time.perf_counter()
            inside = undo.enter_context(netlink.open_socket())
            _tune()
            self._connect(name, at, fd, inside, undo)
            self.kernel.go_home()
            self._await_up(at, inside)
            inside.close()
            steps = (
                Step("namespace", bound - began, naming.namespace_name(name)),
                Step(
                    "veth", time.perf_counter() - bound, f"{naming.host_link_alias(name)} {at.host_ip} – {at.cell_ip}"
                ),
            )
            undo.pop_all()
        return Cell(self.kernel, name, at, fd=fd, path=path, steps=steps)

    def adopt(self, name: str) -> Cell | None:
        """The cell that is bound under `name`, if it is whole: its address in our plan, its cable at both ends."""
        if self.folder is None:
            return None
        path = self.folder / naming.namespace_name(name)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        at = self._addresses_of(name, fd) if is_namespace(fd) else None
        if at is None:
            os.close(fd)
            return None
        return Cell(self.kernel, name, at, fd=fd, path=path, steps=())

    def found(self) -> tuple[str, ...]:
        """The names that are bound in our folder."""
        prefix = naming.namespace_name("")
        if self.folder is None or not self.folder.is_dir():
            return ()
        return tuple(
            sorted(entry.name.removeprefix(prefix) for entry in self.folder.iterdir() if entry.name.startswith(prefix))
        )

    def inode(self, name: str) -> int | None:
        """The namespace that is bound under `name`."""
        if self.folder is None:
            return None
        try:
            fd = os.open(self.folder / naming.namespace_name(name), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return os.fstat(fd).st_ino if is_namespace(fd) else None
        finally:
            os.close(fd)

    def unbind(self, name: str) -> None:
        """Takes the name away; nothing there is fine."""
        if self.folder is not None:
            path = self.folder / naming.namespace_name(name)
            syscalls.unmount(str(path))
            path.unlink(missing_ok=True)

    def unbind_all(self, name: str) -> int | None:
        """Takes a colony's names away, the binding's and the cable's; the slot of that cable, if there was one."""
        ifindex = self.alias_index(name)
        self.unbind(name)
        if ifindex is None:
            return None
        self._drop_alias(ifindex, name)
        return ifindex - FIRST_IFINDEX

    def drop(self, cell: Cell) -> None:
        """Lets go of a cell; the kernel removes it, cable and all, when nobody else holds on to it. Its names are free at once."""
        self.unbind(cell.name)
        self._drop_alias(cell.ifindex, cell.name)
        fd, cell.fd = cell.fd, -1
        if fd >= 0:
            os.close(fd)

    def release(self, cell: Cell) -> None:
        """Closes our handle and leaves the cell as it is."""
        fd, cell.fd = cell.fd, -1
        if fd >= 0:
            os.close(fd)

    def alias_index(self, name: str) -> int | None:
        """The index of the link with a colony's alias."""
        found = netlink.find_link(self.routing, name=naming.host_link_alias(name))
        return found[0] if found else None

    def links(self) -> tuple[int, ...]:
        """The indices of all cables of our kind, ours or not."""
        return tuple(
            struct.unpack_from("=i", payload, 4)[0]
            for payload in netlink.dump(self.routing, netlink.GETLINK, socket.AF_UNSPEC)
            if netlink.attributes(payload, 16).get(netlink.LINK_NAME, b"").startswith(b"vc-")
        )

    def delete_link(self, ifindex: int) -> None:
        """Removes a cable by its host's end; nothing there is fine."""
        try:
            netlink.transact(self.routing, netlink.delete_link(ifindex), 1)
        except netlink.NetlinkError as error:
            if error.errno != errno.ENODEV:
                raise

    def _bind(self, name: str, fd: int, undo: ExitStack) -> Path:
        if self.folder is None:
            return Path(f"/proc/{os.getpid()}/fd/{fd}")
        path = self.folder / naming.namespace_name(name)
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
        except FileExistsError:
            if self.inode(name) is not None:
                raise
            # the empty file of a binding that went with its mount namespace: as good as none
        undo.callback(self.unbind, name)
        syscalls.bind_mount(OWN_NAMESPACE, str(path))
        return path

    def _connect(self, name: str, at: Addresses, fd: int, inside: socket.socket, undo: ExitStack) -> None:
        host_ip, cell_ip = socket.inet_aton(at.host_ip), socket.inet_aton(at.cell_ip)
        ifindex, macs = netlink.index(at.ifindex), {"host_mac": at.host_mac, "cell_mac": at.cell_mac}
        cable, host, cell = (
            netlink.cable_template(),
            netlink.host_template(ipv6=IF_INET6.exists()),
            netlink.cell_template(),
        )
        try:  # alone in its batch: if the link is somebody else's, the rest must not be done to it
            request = cable.fill(link=at.link.encode(), ifindex=ifindex, namespace=netlink.index(fd), **macs)
            netlink.transact(self.routing, request, cable.requests)
        except netlink.NetlinkError as error:
            if error.errno == errno.EEXIST:
                raise LinkTakenError(at.slot) from error
            raise
        undo.callback(self.delete_link, at.ifindex)
        batch = host.fill(ifindex=ifindex, host_ip=host_ip, cell_ip=cell_ip, cell_mac=at.cell_mac)
        netlink.transact(self.routing, batch, host.requests)
        netlink.transact(inside, cell.fill(host_ip=host_ip, cell_ip=cell_ip, host_mac=at.host_mac), cell.requests)
        self._set_alias(at.ifindex, name)

    def _set_alias(self, ifindex: int, name: str) -> None:
        request = netlink.set_alias(ifindex, naming.host_link_alias(name))
        try:
            netlink.transact(self.routing, request, 1)
        except netlink.NetlinkError as error:
            left_over = self.alias_index(name) if error.errno == errno.EEXIST else None
            if left_over is None:
                raise
            self._drop_alias(left_over, name)  # a dead cell's cable, which somebody's socket keeps alive
            netlink.transact(self.routing, request, 1)

    def _drop_alias(self, ifindex: int, name: str) -> None:
        try:
            netlink.transact(self.routing, netlink.drop_alias(ifindex, naming.host_link_alias(name)), 1)
        except netlink.NetlinkError as error:
            if error.errno not in (errno.ENODEV, errno.ENOENT, errno.EINVAL):  # the link, or its name, is gone already
                raise

    def _await_up(self, at: Addresses, inside: socket.socket) -> None:
        """Both ends operational: a packet sent before that is dropped, and its sender waits a second before it tries again."""
        deadline = time.perf_counter() + UP_SECONDS
        for sock, ifindex in ((self.routing, at.ifindex), (inside, netlink.CELL_INDEX)):
            while not _is_up(sock, ifindex):
                if time.perf_counter() > deadline:
                    raise TimeoutError(errno.ETIMEDOUT, f"link {ifindex} does not come up")
                time.sleep(UP_PAUSE_SECONDS)

    def _addresses_of(self, name: str, fd: int) -> Addresses | None:
        with self.kernel.inside(fd), netlink.open_socket() as inside:
            own = [
                netlink.attributes(p, 8).get(2)
                for p in netlink.dump(inside, 22, socket.AF_INET)
                if _index_of(p) == netlink.CELL_INDEX
            ]
        if len(own) != 1 or own[0] is None:
            return None
        at = self.plan.find(socket.inet_ntoa(own[0]))
        if at is None or self.alias_index(name) != at.ifindex or not _is_up(self.routing, at.ifindex):
            return None
        return at


class LinkTakenError(OSError):
    """The slot's link exists already; another slot may be free."""


def _is_up(sock: socket.socket, ifindex: int) -> bool:
    found = netlink.find_link(sock, ifindex=ifindex)
    return found is not None and found[1].get(netlink.OPERSTATE) == bytes([netlink.OPER_UP])


def _index_of(payload: bytes) -> int:
    number: int = struct.unpack_from("=I", payload, 4)[0]
    return number


def _tune() -> None:
    """In the cell's namespace: the whole network is the colony's, so its services may listen on port 80, and ping, without being root."""
    _write(QUIET_IPV6, "1")
    _write(UNPRIVILEGED_PORTS, "0")
    try:
        _write(PING_GROUPS, "0 2147483647")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        _write(PING_GROUPS, f"{os.getgid()} {os.getgid()}")  # a user namespace knows its own group only


def _write(key: str, value: str) -> None:
    try:
        with open(f"/proc/sys/{key}", "w") as file:
            file.write(value)
    except FileNotFoundError:
        return  # a kernel without it needs none
