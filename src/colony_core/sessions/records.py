"""Sessions, their feeds, their questions and what they used, in the store."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
from sqlalchemy import (
    Column,
    Connection,
    Float,
    Index,
    Integer,
    Table,
    Text,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)  # fmt: skip
from sqlalchemy.dialects.sqlite import insert as upsert

from colony_core import wire
from colony_core.store import metadata
from colony_core.views import ReceiptView

from .budget import Spent

DAY_SECONDS = 86400.0
OPEN = "open"
"""The decision of a question that has none."""

sessions = Table(
    "sessions",
    metadata,
    Column("colony_id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("since", Float, nullable=False),
    Column("instruction", Text, nullable=False),
    Column("settings", Text, nullable=False),
    Column("backend", Text, nullable=False),
    Column("vendor_session", Text),
    Column("model", Text, nullable=False),
    Column("result", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("fresh", Integer, nullable=False),
    Column("receipt", Text),
    Column("worked", Float, nullable=False, server_default="0"),
)

feed = Table(
    "agent_feed",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("colony_id", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("kind", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("data", Text, nullable=False),
)
Index("ix_agent_feed_colony", feed.c.colony_id, feed.c.seq)
NOBODY = ""
"""Whose the newest line is, emptied, when its colony is gone."""

approvals = Table(
    "approvals",
    metadata,
    Column("id", Text, primary_key=True),
    Column("colony_id", Text, nullable=False),
    Column("vendor_id", Text, nullable=False),
    Column("tool", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("summary", Text, nullable=False),
    Column("input", Text, nullable=False),
    Column("asked_at", Float, nullable=False),
    Column("decision", Text),
    Column("decided_at", Float),
    Column("decided_by", Text),
    Column("message", Text, nullable=False),
)
Index("ix_approvals_colony", approvals.c.colony_id, approvals.c.asked_at)

spendings = Table(
    "agent_spendings",
    metadata,
    Column("id", Text, primary_key=True),
    Column("colony_id", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("usd", Float, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("turns", Integer, nullable=False),
    Column("minutes", Float, nullable=False),
)
Index("ix_agent_spendings_colony", spendings.c.colony_id)
Index("ix_agent_spendings_at", spendings.c.at)

pauses = Table(
    "agent_pauses",
    metadata,
    Column("account", Text, primary_key=True),
    Column("until", Float, nullable=False),
    Column("text", Text, nullable=False),
)


@attrs.frozen(kw_only=True)
class SessionRecord:
    """What the store knows of a colony's agent.

    `fresh`: the instruction has not reached the vendor's session yet. `worked`: the seconds that it was worked at, in all its runs.
    """

    colony_id: str
    state: str = "idle"
    reason: str = ""
    since: float = 0.0
    instruction: str = ""
    settings: Mapping[str, Any] = attrs.field(factory=dict)
    backend: str = ""
    vendor_session: str | None = None
    model: str = ""
    result: str = ""
    code: str = ""
    evidence: tuple[str, ...] = ()
    fresh: bool = True
    receipt: ReceiptView | None = None
    worked: float = 0.0


@attrs.frozen(kw_only=True)
class FeedLine:
    """A line of a feed."""

    seq: int
    colony_id: str
    at: float
    kind: str
    content: str
    data: Mapping[str, Any]


@attrs.frozen(kw_only=True)
class Approval:
    """A question of an agent's, and its answer once there is one."""

    id: str
    colony_id: str
    vendor_id: str
    tool: str
    kind: str
    summary: str
    input: Mapping[str, Any]
    asked_at: float
    decision: str | None = None
    decided_at: float | None = None
    decided_by: str | None = None
    message: str = ""


def put(connection: Connection, record: SessionRecord) -> None:
    """Records a session, over what was known of it."""
    row = attrs.asdict(record, recurse=False) | {
        "settings": json.dumps(dict(record.settings)),
        "evidence": json.dumps(list(record.evidence)),
        "fresh": int(record.fresh),
        "receipt": None if record.receipt is None else wire.dump_json(record.receipt).decode(),
    }
    connection.execute(upsert(sessions).values(row).on_conflict_do_update(index_elements=["colony_id"], set_=row))


def interrupt(connection: Connection, colony_id: str, code: str, by: str) -> None:
    """Records that an agent at work was asked to stop; of one that rests nothing is changed."""
    busy = sessions.c.state.in_(("working", "waiting"))
    chosen = update(sessions).where(sessions.c.colony_id == colony_id, busy)
    connection.execute(chosen.values(code=code, evidence=json.dumps([by])))


def work(connection: Connection, colony_id: str, seconds: float) -> None:
    """Records how long an instruction was worked at so far."""
    connection.execute(update(sessions).where(sessions.c.colony_id == colony_id).values(worked=seconds))


def all_sessions(connection: Connection) -> tuple[SessionRecord, ...]:
    """Every session."""
    return tuple(
        SessionRecord(
            **{
                **row,
                "settings": json.loads(row["settings"]),
                "evidence": tuple(json.loads(row["evidence"])),
                "fresh": bool(row["fresh"]),
                "receipt": None if row["receipt"] is None else wire.load_reply(row["receipt"], ReceiptView),
            }
        )
        for row in connection.execute(select(sessions)).mappings()
    )


def last_line(connection: Connection) -> int:
    """The newest number of all feeds."""
    return connection.execute(select(func.max(feed.c.seq))).scalar() or 0


def append(connection: Connection, lines: Sequence[FeedLine]) -> None:
    """Adds lines that are numbered."""
    # A commit whose answer was lost with an I/O error may have left them there already.
    connection.execute(delete(feed).where(feed.c.seq >= lines[0].seq))
    connection.execute(insert(feed), [attrs.asdict(line) | {"data": json.dumps(dict(line.data))} for line in lines])


def trim(connection: Connection, colony_id: str, keep: int) -> None:
    """Forgets all but the newest `keep` lines of a colony."""
    newest = select(feed.c.seq).where(feed.c.colony_id == colony_id).order_by(feed.c.seq.desc()).offset(keep).limit(1)
    border = connection.execute(newest).scalar()
    if border is not None:
        connection.execute(delete(feed).where(feed.c.colony_id == colony_id, feed.c.seq <= border))


def lines_after(connection: Connection, colony_id: str, after: int, limit: int) -> tuple[FeedLine, ...]:
    """Lines of a colony behind `after`, the oldest first."""
    chosen = select(feed).where(feed.c.colony_id == colony_id, feed.c.seq > after).order_by(feed.c.seq).limit(limit)
    return tuple(_line(row) for row in connection.execute(chosen).mappings())


def newest_lines(connection: Connection, colony_id: str, limit: int) -> tuple[FeedLine, ...]:
    """The newest lines of a colony, the oldest first."""
    chosen = select(feed).where(feed.c.colony_id == colony_id).order_by(feed.c.seq.desc()).limit(limit)
    return tuple(_line(row) for row in connection.execute(chosen).mappings())[::-1]


def ask(connection: Connection, approval: Approval) -> None:
    """Records a question."""
    connection.execute(insert(approvals).values(attrs.asdict(approval) | {"input": json.dumps(dict(approval.input))}))


def decide(connection: Connection, approval_id: str, *, decision: str, at: float, by: str, message: str) -> bool:
    """Records an answer, if there is none yet; whether there was none."""
    changed = connection.execute(
        update(approvals)
        .where(approvals.c.id == approval_id, approvals.c.decision.is_(None))
        .values(decision=decision, decided_at=at, decided_by=by, message=message)
    )
    return changed.rowcount == 1


def void_questions(connection: Connection, colony_id: str, at: float) -> None:
    """Nobody waits for the answers of a colony's open questions any more."""
    connection.execute(
        update(approvals)
        .where(approvals.c.colony_id == colony_id, approvals.c.decision.is_(None))
        .values(decision="void", decided_at=at, decided_by="colony")
    )


def approvals_of(
    connection: Connection, colony_id: str, *, after: str | None, decision: str | None, limit: int
) -> tuple[Approval, ...]:
    """The newest questions of a colony, the newest first: those behind the question `after`, of a decision (`open`: none yet)."""
    own = approvals.c.colony_id == colony_id
    chosen = select(approvals).where(own).order_by(approvals.c.asked_at.desc(), approvals.c.id).limit(limit)
    if after is not None:
        place = select(approvals.c.asked_at).where(own, approvals.c.id == after).scalar_subquery()
        older = approvals.c.asked_at < place
        chosen = chosen.where(or_(older, and_(approvals.c.asked_at == place, approvals.c.id > after)))
    if decision is not None:
        chosen = chosen.where(approvals.c.decision.is_(None if decision == OPEN else decision))
    rows = connection.execute(chosen).mappings()
    return tuple(Approval(**{**row, "input": json.loads(row["input"])}) for row in rows)


def spend(connection: Connection, run: str, colony_id: str, at: float, spent: Spent) -> None:
    """Records what a run has used so far."""
    row = {"id": run, "colony_id": colony_id, "at": at} | attrs.asdict(spent)
    connection.execute(upsert(spendings).values(row).on_conflict_do_update(index_elements=["id"], set_=row))


def spent_by_colony(connection: Connection) -> dict[str, Spent]:
    """What each colony's agent has used, ever."""
    sums = [func.sum(spendings.c[name]).label(name) for name in ("usd", "tokens", "turns", "minutes")]
    rows = connection.execute(select(spendings.c.colony_id, *sums).group_by(spendings.c.colony_id)).mappings()
    return {
        row["colony_id"]: Spent(usd=row["usd"], tokens=row["tokens"], turns=row["turns"], minutes=row["minutes"])
        for row in rows
    }


def spent_since(connection: Connection, at: float) -> Spent:
    """What all agents have used in runs that went on after that moment."""
    sums = [func.coalesce(func.sum(spendings.c[name]), 0).label(name) for name in ("usd", "tokens", "turns", "minutes")]
    row = connection.execute(select(*sums).where(spendings.c.at >= at)).mappings().one()
    return Spent(**row)


def put_pause(connection: Connection, account: str, until: float, text: str) -> None:
    """Records that an account has reached a limit."""
    row = {"account": account, "until": until, "text": text}
    connection.execute(upsert(pauses).values(row).on_conflict_do_update(index_elements=["account"], set_=row))


def all_pauses(connection: Connection, now: float) -> dict[str, tuple[float, str]]:
    """The pauses that are not over, by account."""
    connection_rows = connection.execute(select(pauses).where(pauses.c.until > now)).mappings()
    return {row["account"]: (row["until"], row["text"]) for row in connection_rows}


def forget(connection: Connection, colony_ids: Iterable[str]) -> None:
    """Drops what was said and asked in colonies; what they used stays, since it was used.

    So does the newest number of all feeds, or the next daemon would give it again.
    """
    ids, newest = list(colony_ids), last_line(connection)
    for table in (sessions, approvals):
        connection.execute(delete(table).where(table.c.colony_id.in_(ids)))
    connection.execute(delete(feed).where(feed.c.colony_id.in_([*ids, NOBODY]), feed.c.seq < newest))
    blank = {"colony_id": NOBODY, "kind": "", "content": "", "data": "{}"}
    connection.execute(update(feed).where(feed.c.seq == newest, feed.c.colony_id.in_(ids)).values(blank))


def _line(row: Mapping[Any, Any]) -> FeedLine:
    return FeedLine(**{**row, "data": json.loads(row["data"])})
