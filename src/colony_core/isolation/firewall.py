"""One static ruleset for all cells of a daemon, by the group of their host ends; no rule per colony, and none about another daemon's cells.

Colonies do not reach each other nor the host's ports, cannot send in another's name, and reach the outside by NAT; but not where a cloud
tells a machine its secrets, unless a resolver stands there and is asked as one. Who may reach whom after all stands in two sets, by
addresses. What passes between cells is judged by who began the conversation: answers pass, calls the other way do not, and a conversation
ends with the passage that it came by.
"""

import os
import shutil
import subprocess
import zlib
from collections.abc import Iterable
from pathlib import Path

import attrs

from colony_core.errors import Broken, Missing

from .netlink import link_group
from .outside import CABLE, METADATA
from .rootless import ambient_for_child

FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
NFT_SECONDS = 30.0
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"

_RULES = """
table inet {table}
flush table inet {table}
table inet {table} {{
  set passages {{ type ipv4_addr . ipv4_addr; }}
  set port_passages {{ type ipv4_addr . ipv4_addr . inet_proto . inet_service; }}
  chain prerouting {{
    type filter hook prerouting priority -300; policy accept;
    iifgroup {group} fib saddr . iif oif missing counter drop
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifgroup != {group} oifgroup != {group} accept
    iifgroup {group} oifgroup {group} goto between
    ct state established,related accept
    iifgroup {group} ip daddr {{ {metadata} }} th dport != 53 counter reject with icmpx admin-prohibited
    iifgroup {group} {egress}
    oifgroup {group} counter drop
  }}
  chain between {{
    ct state invalid counter drop
    ct original ip saddr . ct original ip daddr @passages accept
    meta l4proto {{ tcp, udp }} ct original ip saddr . ct original ip daddr . meta l4proto . ct original proto-dst @port_passages accept
    ct state related meta l4proto icmp accept
    counter reject with icmpx admin-prohibited
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifgroup != {group} accept
    ct state established,related accept
    icmp type echo-request accept
    meta l4proto {{ tcp, udp }} th dport 53 accept
    counter reject with icmpx admin-prohibited
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {base} oifname != "{cable}*" masquerade
  }}
}}
"""


@attrs.frozen
class Opening:
    """From one cell's address to another's, to one port (TCP and UDP) or to all that is there."""

    source: str
    target: str
    port: int | None = None


@attrs.frozen
class EgressReport:
    """Whether colonies reach the outside, and what was changed on the host for it, or why they do not."""

    allowed: bool
    text: str
    proxied: bool = False
    """Whether it is a proxy inside each cell (`serve_way_out`) that lets out."""

    def __str__(self) -> str:
        return self.text


def table_name(run_dir: Path) -> str:
    """The table of a daemon; two daemons, which have two run folders, do not touch each other's."""
    return f"colony_{zlib.crc32(os.fsencode(run_dir.resolve())):08x}"


def rules(table: str, base: str, *, egress: bool) -> str:
    """The whole ruleset as text for nft(8); loading it replaces what was there under its name, but for the openings: those are kept."""
    verdict = "accept" if egress else "counter reject with icmpx admin-prohibited"
    return _RULES.format(
        table=table, group=link_group(table), base=base, cable=CABLE, metadata=", ".join(METADATA), egress=verdict
    )


def find_nft() -> str:
    """Where nft(8) is; raises Missing (`nft-missing`)."""
    found = shutil.which("nft") or shutil.which("nft", path=SYSTEM_PATH)
    if found is None:
        raise Missing(
            "nft-missing", "nft is not installed: colonies could not be kept apart", "sudo apt install nftables"
        )
    return found


def load(table: str, base: str, *, egress: bool) -> None:
    """Loads the ruleset in the calling thread's network. Raises Missing, Broken (`firewall`)."""
    _nft("-f", "-", feed=rules(table, base, egress=egress))


def openings(table: str, wanted: Iterable[Opening]) -> str:
    """As text for nft(8): from now on there are these openings and no others, in one step."""
    lines = [f"flush set inet {table} passages", f"flush set inet {table} port_passages"]
    for each in sorted(set(wanted), key=lambda each: (each.source, each.target, each.port or 0)):
        pair = f"{each.source} . {each.target}"
        if each.port is None:
            lines.append(f"add element inet {table} passages {{ {pair} }}")
        else:
            lines += [
                f"add element inet {table} port_passages {{ {pair} . {kind} . {each.port} }}" for kind in ("tcp", "udp")
            ]
    return "\n".join([*lines, ""])


def set_openings(table: str, wanted: Iterable[Opening]) -> None:
    """Makes these the only openings, in the calling thread's network. Raises Missing, Broken (`firewall`); nothing is changed then."""
    _nft("-f", "-", feed=openings(table, wanted))


def unload(table: str) -> None:
    """Takes the ruleset away; nothing there is fine."""
    _nft("-f", "-", feed=f"table inet {table}\ndelete table inet {table}\n")


def firewall_stands(run_dir: Path) -> bool:
    """Whether the firewall of the daemon of a run folder stands in the calling thread's network."""
    return table_name(run_dir) in _nft("list", "tables").split()


def _nft(*arguments: str, feed: str = "") -> str:
    try:
        with ambient_for_child():
            done = subprocess.run(
                [find_nft(), *arguments], input=feed, capture_output=True, text=True, timeout=NFT_SECONDS, check=False
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Broken("firewall", f"nft could not be run: {error}", "colony doctor") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[0]
        raise Broken(
            "firewall", f"nft refused the ruleset: {said}", "is the kernel's nf_tables module loaded? colony doctor"
        )
    return done.stdout


def set_forwarding(note: Path) -> EgressReport:
    """Turns IP forwarding on in the calling thread's network, and notes what it was, for whoever restores it."""
    try:
        if FORWARD.read_text().strip() == "1":
            return EgressReport(True, "by NAT (forwarding was on)")
        if not note.exists():
            note.write_text("0")
        FORWARD.write_text("1")
    except OSError as error:
        return EgressReport(False, f"none: net.ipv4.ip_forward cannot be set ({error.strerror})")
    return EgressReport(True, "by NAT (net.ipv4.ip_forward was set, and is restored when Colony ends)")


def restore_forwarding(note: Path) -> None:
    """Sets IP forwarding to what it was before us."""
    try:
        before = note.read_text().strip()
        if before == "0":
            FORWARD.write_text("0")
        note.unlink()
    except OSError:
        return


def docker_blocks_forwarding() -> bool:
    """Whether somebody's FORWARD chain (Docker's, as a rule) drops what it does not know, and knows no cells; only root can see it."""
    return "policy drop" in _listed("FORWARD") and '"vc-' not in _listed("FORWARD") + _listed("DOCKER-USER")


def _listed(chain: str) -> str:
    try:
        return _nft("list", "chain", "ip", "filter", chain)
    except (Missing, Broken):  # no such chain, or not ours to look at
        return ""
