"""Links between colonies: whom one may reach over the network, why one of them does not work, and the names in a cell.

A link is one colony's wish, in its manifest. It is granted where both colonies have the same owner: to be reached over the network is
more than to be looked at, so that visibility does not suffice. A colony that is not to be looked at is for others as if it were not there.
"""

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import attrs
import trio

from colony_core.errors import ColonyError, Invalid, NotAllowed
from colony_core.isolation import Passage
from colony_core.naming import COLONY_DOMAIN, colony_address_name
from colony_core.views import LinkView

from .manifest import Link, Manifest
from .means import Means

if TYPE_CHECKING:
    from .colony import Colony

logger = logging.getLogger("colony.colonies")

HERE = "127.0.0.1"
"""All services of one colony share a network."""


@attrs.frozen
class _Verdict:
    """What is to be opened for a link, and why it does not work; one does not exclude the other."""

    passage: Passage | None = None
    reason: str = ""


class Links:
    """The links of all colonies of a house. Answered from memory, as things stand at that moment."""

    def __init__(
        self, means: Means, named: Callable[[str], "Colony | None"], everyone: Callable[[], Iterable["Colony"]]
    ) -> None:
        self._means = means
        self._named = named
        self._everyone = everyone

    def check(self, name: str, owner: str, manifest: Manifest) -> None:
        """Raises Invalid (`link-to-itself`) or NotAllowed (`link-not-allowed`) for what can never be granted.

        A link to a colony that there is not is none of these: it may be made later.
        """
        for link in manifest.links:
            if link.colony == name:
                hint = f"its services are at {HERE} and by their names: http://api:4002"
                raise Invalid("link-to-itself", f"colony “{name}” cannot be linked to itself", hint)
            target = self._seen(link.colony, owner)
            if target is not None and target.record.owner != owner:
                message = f"colony “{name}” cannot be linked to “{link.colony}”, which belongs to somebody else"
                raise NotAllowed("link-not-allowed", message, "link colonies of one owner: colony ls")

    async def renew(self) -> None:
        """Opens what the manifests of all colonies ask for and closes everything else. Raises Missing, Broken: see Isolation.allow."""
        verdicts = [self._judge(colony, link) for colony in self._everyone() for link in colony.manifest.links]
        await self._means.isolation.allow(verdict.passage for verdict in verdicts if verdict.passage is not None)

    async def try_renew(self) -> None:
        """As `renew`; what stands in the way is shown with each link, and tried again at every change."""
        try:
            with trio.CancelScope(shield=True):
                await self.renew()
        except ColonyError as error:
            logger.error("links between colonies are not as they should be: %s", error)

    def views(self, colony: "Colony") -> tuple[LinkView, ...]:
        """The links of a colony, each with the name and address it leads to, or why it leads nowhere."""
        return tuple(self._view(colony, link) for link in colony.manifest.links)

    def lookup(self, colony: "Colony", name: str) -> tuple[str, ...] | None:
        """The addresses of a name, asked in a colony's cell; none for a colony it may not reach, None for no name of a colony.

        A sibling is `api`; a colony is `other` or `other.colony.internal`, its service `api.other.colony.internal`.
        """
        labels = name.split(".")
        below = labels[-2:] == COLONY_DOMAIN.split(".")
        if not below:
            if name in colony.services or name == colony.name:
                return (HERE,)
            return (
                self._linked(colony, name, None) if any(name == link.colony for link in colony.manifest.links) else None
            )
        of_colony = labels[-3] if len(labels) in (3, 4) else ""
        service = labels[0] if len(labels) == 4 else None
        if of_colony != colony.name:
            return self._linked(colony, of_colony, service)
        return (HERE,) if service is None or service in colony.services else ()

    def _seen(self, name: str, owner: str) -> "Colony | None":
        target = self._named(name)
        hidden = target is not None and target.record.owner != owner and self._means.config.access.others != "look"
        return None if hidden else target

    def _linked(self, colony: "Colony", name: str, service: str | None) -> tuple[str, ...]:
        target = self._named(name)
        if target is None or target.cell is None or (service is not None and service not in target.services):
            return ()
        links = [link for link in colony.manifest.links if link.colony == name]
        granted = any(
            self._judge(colony, link).passage is not None
            for link in links
            if service is None or link.service in (None, service)
        )
        return (target.cell.address,) if granted else ()

    def _judge(self, colony: "Colony", link: Link) -> _Verdict:
        target = self._seen(link.colony, colony.record.owner)
        if target is None:
            return _Verdict(reason=f"there is no colony “{link.colony}”")
        if target.record.owner != colony.record.owner:
            return _Verdict(reason=f"colony “{link.colony}” belongs to somebody else")
        port = None
        if link.service is not None:
            spec = next((spec for spec in target.manifest.services if spec.name == link.service), None)
            if spec is None:
                return _Verdict(reason=f"colony “{link.colony}” has no service “{link.service}”")
            if spec.port is None:
                return _Verdict(reason=f"service “{link.service}” of colony “{link.colony}” has no port")
            port = spec.port
        passage = Passage(colony.name, link.colony, port)
        for each in (colony, target):
            if each.cell is None:
                return _Verdict(passage, f"colony “{each.name}” is {each.state.value}")
        return _Verdict(passage, self._means.isolation.trouble)

    def _view(self, colony: "Colony", link: Link) -> LinkView:
        verdict, target = self._judge(colony, link), self._named(link.colony)
        known = verdict.passage is not None and target is not None and target.cell is not None
        return LinkView(
            to=str(link),
            colony=link.colony,
            service=link.service,
            works=not verdict.reason,
            reason=verdict.reason,
            name=colony_address_name(link.colony, link.service),
            address=target.cell.address if known and target is not None and target.cell is not None else None,
            port=verdict.passage.port if verdict.passage is not None else None,
        )
