"""What the kernel thread does to make, find and unmake a cell. Every function here runs in that thread.

The file is long because making a cell and unmaking it, step by step, are read together.
"""

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
from .kernel import OWN_NAMESPACE, Kernel

IF_INET6 = Path("/proc/net/if_inet6")
UP_SECONDS = 10.0
"""On a busy machine the kernel's worker that says so may come late."""
UP_PAUSE_SECONDS = 0.001
DYING_SECONDS = 5.0
DYING_PAUSE_SECONDS = 0.01
QUIET_IPV6 = "net/ipv6/conf/default/disable_ipv6"
"""Interfaces made from now on have no IPv6: no link-local address, no solicitations. Loopback exists already and keeps ::1."""
UNPRIVILEGED_PORTS = "net/ipv4/ip_unprivileged_port_start"
PING_GROUPS = "net/ipv4/ping_group_range"
_NEW_FILE = os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


@attrs.define
class Builder:
    """The kernel thread's hands: where names are bound, and the routing socket of the hosts' side."""

    kernel: Kernel
    plan: AddressPlan
    folder: Path | None
    """Where namespaces are bound; None binds nothing, so that they go with this process."""
    routing: socket.socket
    mark: str
    """Stands on the links of what we made: whatever else has a name like ours is left alone."""

    def build(self, name: str, at: Addresses) -> Cell:
        """A cell, verified up at both ends; whatever fails, nothing of it stays. Raises OSError (FileExistsError: the name is bound)."""
        began = time.perf_counter()
        with ExitStack() as undo:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            undo.callback(self.kernel.go_home)
            inside = undo.enter_context(netlink.open_socket())
            netlink.transact(inside, netlink.claim_loopback(self.mark), 1)
            fd = os.open(OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
            undo.callback(os.close, fd)
            path = self._bind(name, fd, undo)
            bound = time.perf_counter()
            _tune()
            self._connect(name, at, fd, inside, undo)
            self.kernel.go_home()
            self._await_up(at, inside)
            inside.close()
            cable = f"{naming.host_link_alias(name)} {at.host_ip} – {at.cell_ip}"
            steps = (
                Step("namespace", bound - began, naming.namespace_name(name)),
                Step("veth", time.perf_counter() - bound, cable),
            )
            cell = Cell(self.kernel, name, at, fd=fd, path=path, steps=steps)
            undo.pop_all()
        return cell

    def adopt(self, name: str) -> Cell | None:
        """The cell that is bound under `name`, if it is ours and whole: its address in our plan, its cable at both ends."""
        path = self._path(name)
        with ExitStack() as undo:
            fd = _open_namespace(path)
            if path is None or fd is None:
                return None
            undo.callback(os.close, fd)
            at = self._addresses_of(name, fd)
            if at is None:
                return None
            cell = Cell(self.kernel, name, at, fd=fd, path=path, steps=())
            undo.pop_all()
        return cell

    def address(self, name: str) -> str | None:
        """The address of the cell that `adopt` would find."""
        at = self._named(name)
        return None if at is None else at.cell_ip

    def found(self) -> tuple[str, ...]:
        """The names in our folder under which something of ours is bound."""
        prefix = naming.namespace_name("")
        if self.folder is None or not self.folder.is_dir():
            return ()
        names = (entry.name.removeprefix(prefix) for entry in self.folder.iterdir() if entry.name.startswith(prefix))
        return tuple(sorted(name for name in names if self.bound(name) is not None))

    def bound(self, name: str) -> int | None:
        """The inode of the namespace of ours that is bound under `name`."""
        fd = _open_namespace(self._path(name))
        if fd is None:
            return None
        try:
            return os.fstat(fd).st_ino if self._is_ours(fd) else None
        finally:
            os.close(fd)

    def unbind(self, name: str) -> None:
        """Takes the name away; nothing there is fine."""
        path = self._path(name)
        if path is not None:
            syscalls.unmount(str(path))
            path.unlink(missing_ok=True)

    def unbind_all(self, name: str) -> int | None:
        """Takes a colony's names away, the binding's and the cable's, if they are ours; the slot of that cable, if there was one."""
        ifindex = self._left_over(name)
        path = self._path(name)
        if self.bound(name) is not None:
            self.unbind(name)
        elif path is not None:
            _discard(path)
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

    def links(self) -> dict[int, bool]:
        """The indices of all cables of our kind, and whether they are ours."""
        found = {}
        for payload in netlink.dump(self.routing, netlink.GETLINK, socket.AF_UNSPEC):
            link = netlink.attributes(payload, 16)
            if link.get(netlink.LINK_NAME, b"").startswith(b"vc-"):
                found[struct.unpack_from("=i", payload, 4)[0]] = netlink.mark_in(link) == self.mark
        return found

    def await_dying(self) -> None:
        """Until no cable of ours is left whose cell has no name: the kernel removes those once nobody holds on. Up to `DYING_SECONDS`."""
        deadline = time.perf_counter() + DYING_SECONDS
        named = {at.ifindex for name in self.found() if (at := self._named(name)) is not None}
        while {ifindex for ifindex, ours in self.links().items() if ours} - named and time.perf_counter() < deadline:
            time.sleep(DYING_PAUSE_SECONDS)

    def delete_link(self, ifindex: int) -> None:
        """Removes a cable by its host's end; nothing there is fine."""
        try:
            netlink.transact(self.routing, netlink.delete_link(ifindex), 1)
        except netlink.NetlinkError as error:
            if error.errno != errno.ENODEV:
                raise

    def _path(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / naming.namespace_name(name)

    def _bind(self, name: str, fd: int, undo: ExitStack) -> Path:
        path = self._path(name)
        if path is None:
            return Path(f"/proc/{os.getpid()}/fd/{fd}")
        try:
            file = os.open(path, _NEW_FILE, 0o444)
        except FileExistsError:
            # the empty file of a binding that went with its mount namespace is as good as none; anything bound is not
            if _is_bound(path) or not _discard(path):
                raise
            file = os.open(path, _NEW_FILE, 0o444)
        undo.callback(_discard, path)
        try:  # by descriptor: if somebody has put another file here meanwhile, this fails, and does not cover theirs
            syscalls.bind_mount(OWN_NAMESPACE, f"/proc/self/fd/{file}")
        finally:
            os.close(file)
        undo.callback(syscalls.unmount, str(path))
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
        batch = host.fill(
            ifindex=ifindex,
            mark=self.mark.encode(),
            group=netlink.index(netlink.link_group(self.mark)),
            host_ip=host_ip,
            cell_ip=cell_ip,
            cell_mac=at.cell_mac,
        )
        netlink.transact(self.routing, batch, host.requests)
        netlink.transact(inside, cell.fill(host_ip=host_ip, cell_ip=cell_ip, host_mac=at.host_mac), cell.requests)
        self._set_alias(at.ifindex, name)

    def _set_alias(self, ifindex: int, name: str) -> None:
        request = netlink.set_alias(ifindex, naming.host_link_alias(name))
        try:
            netlink.transact(self.routing, request, 1)
        except netlink.NetlinkError as error:
            if error.errno != errno.EEXIST:
                raise
            left_over = self._left_over(name)
            if left_over is None:
                raise LinkNameTakenError(
                    errno.EEXIST, f"there is a link {naming.host_link_alias(name)} already"
                ) from error
            self._drop_alias(left_over, name)  # a dead cell's cable, which somebody's socket keeps alive
            netlink.transact(self.routing, request, 1)

    def _left_over(self, name: str) -> int | None:
        """The index of our cable with a colony's readable name; a stranger's link of that name is none of ours."""
        found = netlink.find_link(self.routing, name=naming.host_link_alias(name))
        return found[0] if found and found[0] >= FIRST_IFINDEX and netlink.mark_in(found[1]) == self.mark else None

    def _named(self, name: str) -> Addresses | None:
        fd = _open_namespace(self._path(name))
        if fd is None:
            return None
        try:
            return self._addresses_of(name, fd)
        finally:
            os.close(fd)

    def _is_ours(self, fd: int) -> bool:
        with self.kernel.inside(fd), netlink.open_socket() as inside:
            found = netlink.find_link(inside, ifindex=1)
        return found is not None and netlink.mark_in(found[1]) == self.mark

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
        if not self._is_ours(fd):
            return None
        with self.kernel.inside(fd), netlink.open_socket() as inside:
            own = [
                netlink.attributes(p, 8).get(2)
                for p in netlink.dump(inside, netlink.GETADDR, socket.AF_INET)
                if _index_of(p) == netlink.CELL_INDEX
            ]
        if len(own) != 1 or own[0] is None:
            return None
        at = self.plan.find(socket.inet_ntoa(own[0]))
        if at is None or self._left_over(name) != at.ifindex or not _is_up(self.routing, at.ifindex):
            return None
        return at


class LinkTakenError(OSError):
    """The slot's link exists already; another slot may be free."""


class LinkNameTakenError(OSError):
    """A link that is not ours bears the readable name of the colony's."""


def _open_namespace(path: Path | None) -> int | None:
    """The namespace that is bound at `path`, whoever's it is."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC) if path is not None and _is_bound(path) else None


def _is_bound(path: Path) -> bool:
    try:
        return path.stat().st_dev == os.stat(OWN_NAMESPACE).st_dev
    except OSError:
        return False


def _discard(path: Path) -> bool:
    """Removes an empty file on which nothing is bound, and says whether the path is free."""
    try:
        path.unlink(missing_ok=True)
    except OSError:  # EBUSY: something is bound on it
        return False
    return True


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
