"""Who may do what. Pure: each route names the roles that it is for, each colony has a person whose it is, and this decides."""

from .keys import Identity, Role

Roles = frozenset[Role]
ALL_ROLES: Roles = frozenset(Role)
LOOKING: Roles = frozenset({Role.APE, Role.VIEWER, Role.AGENT})
"""Agents among them see their own colony only."""
PEOPLE: Roles = frozenset({Role.APE, Role.VIEWER})
OWN: Roles = frozenset({Role.APE, Role.AGENT})
"""What agents may change of their own colony."""
CHANGING: Roles = frozenset({Role.APE})


def may_see(who: Identity, *, owner: str, colony_id: str, others: str) -> bool:
    """Whether a colony exists for `who`; `others` (look, nothing) is what people may do with colonies that are not theirs."""
    if who.role is Role.GARDEN:
        return False
    if who.role is Role.AGENT:
        return colony_id == who.colony
    return others == "look" or belongs_to(who, owner)


def may_change(who: Identity, *, owner: str, colony_id: str) -> bool:
    """Whether `who` may change a colony, as far as its route's roles allow."""
    return colony_id == who.colony if who.role is Role.AGENT else belongs_to(who, owner)


def belongs_to(who: Identity, owner: str) -> bool:
    """Whether what `owner` has is, for this, what `who` has. Everything belongs to the daemon's own user."""
    return who.house or owner == who.person
