"""Who may reach whom: passages by the names of colonies, kept in the firewall as openings by their addresses."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import attrs

from colony_core.errors import Broken

from . import firewall
from .firewall import Opening


@attrs.frozen
class Passage:
    """One colony may begin conversations with another: at one port (TCP and UDP), or at all of them."""

    source: str
    target: str
    port: int | None = None


def openings(passages: Iterable[Passage], address: Callable[[str], str | None]) -> frozenset[Opening]:
    """The passages both ends of which have an address. Pure, as far as `address` is."""
    found = set()
    for each in passages:
        source, target = address(each.source), address(each.target)
        if source is not None and target is not None and source != target:
            found.add(Opening(source, target, each.port))
    return frozenset(found)


class Passages:
    """What is wanted, and what the firewall has. `open` is for the kernel thread."""

    def __init__(
        self, table: str, forward_note: Path, bound_address: Callable[[str], str | None], *, egress: bool
    ) -> None:
        self.wanted: frozenset[Passage] = frozenset()
        self.egress = egress
        self._table = table
        self._forward_note = forward_note
        self._bound_address = bound_address
        self._opened: frozenset[Opening] | None = None

    @property
    def idle(self) -> bool:
        """Whether there is nothing to open and nothing to close."""
        return not self.wanted and self._opened == frozenset()

    @property
    def unsure(self) -> bool:
        """Whether there may be openings of an earlier daemon, or of a change that failed."""
        return self._opened is None

    def open(self, addresses: Mapping[str, str | None]) -> None:
        """Brings the firewall in line, where it is not: with the cells of `addresses`, and with those that wait to be adopted.

        Raises Missing, Broken (`firewall`, `no-forwarding`), OSError.
        """

        def address(name: str) -> str | None:
            return addresses[name] if name in addresses else self._bound_address(name)

        wanted = openings(self.wanted, address)
        if wanted == self._opened:
            return
        self._opened = None
        firewall.set_openings(self._table, wanted)
        self._opened = wanted
        if wanted and not (report := firewall.set_forwarding(self._forward_note)).allowed:
            raise Broken("no-forwarding", f"between colonies: {report}", "sudo sysctl -w net.ipv4.ip_forward=1")
