"""What the rights of whoever asks mean for a request: the route's roles, the colony's owner, the events that are told."""

import attrs

from colony_core.access import Identity, Role, Roles, may_change, may_see
from colony_core.errors import NotAllowed, NotFound
from colony_core.journal import Selection
from colony_core.views import ColonyView

from .house import House

_MAY: dict[Role, str] = {
    Role.APE: "do everything with what is yours",
    Role.VIEWER: "look, not change",
    Role.AGENT: "look at its own colony and restart its services",
    Role.GARDEN: "say who it is, no more",
}


def require_role(identity: Identity | None, roles: Roles, *, house: bool = False) -> Identity:
    """Whoever asks. Raises NotAllowed unless they have one of the roles, and with `house` are the daemon's own user."""
    if identity is None or identity.role not in roles:
        role, may = (identity.role.value, _MAY[identity.role]) if identity else ("nobody", "do nothing here")
        wanted = " or ".join(sorted(each.value for each in roles))
        raise NotAllowed("role-may-not", f"the role {role} may {may}", f"ask somebody for a token of the role {wanted}")
    if house and not identity.house:
        raise NotAllowed(
            "house-only", "this concerns everybody's colonies", "ask whoever runs the daemon, with their user or token"
        )
    return identity


def visible(house: House, identity: Identity, view: ColonyView) -> bool:
    """Whether a colony exists for the caller."""
    return may_see(identity, owner=view.owner, colony_id=view.id, others=house.config.access.others)


def colony_for(house: House, identity: Identity, ref: str, *, change: bool) -> ColonyView:
    """The colony that the caller means. Raises NotFound where it does not exist for the caller, NotAllowed (`not-your-colony`)."""
    sees_all = identity.house and identity.role is not Role.AGENT
    try:
        view = house.colony(ref)
    except NotFound:
        if sees_all:
            raise
        raise _no_colony(ref) from None  # the nearest name may be one that the caller must not hear
    if not visible(house, identity, view):
        raise _no_colony(ref)
    if change and not may_change(identity, owner=view.owner, colony_id=view.id):
        raise NotAllowed("not-your-colony", f"colony “{view.name}” is {view.owner}'s", f"ask {view.owner}")
    return view


def told_events(house: House, identity: Identity, selection: Selection) -> Selection:
    """Of the events that the caller wants, those that they may hear of."""
    if identity.role is Role.AGENT:
        return attrs.evolve(selection, within=identity.colony or "")
    if identity.house or house.config.access.others == "look":
        return selection
    return attrs.evolve(selection, owner=identity.person)


def _no_colony(ref: str) -> NotFound:
    return NotFound("colony-not-found", f"there is no colony {ref[:80]!r}", "colony ls")
