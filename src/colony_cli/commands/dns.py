"""Names of previews for programs that resolve no names below localhost, and for other domains."""

import ipaddress

import click

from colony_cli.context import Run
from colony_cli.forms import command
from colony_core.errors import Invalid

MULTICAST = ".local"


@command(
    "dnsmasq",
    takes=frozenset(),
    examples=(
        "colony dns dnsmasq | sudo tee /etc/dnsmasq.d/colony.conf",
        "colony dns dnsmasq --port 53535 > colony-dns.conf   # a dnsmasq for nothing else: dnsmasq -k -C colony-dns.conf",
        "colony dns dnsmasq --address 192.0.2.7",
    ),
    see=("colony open", "colony doctor"),
)
@click.option("--address", metavar="IP", help="where the names lead (default: where previews listen, or 127.0.0.1)")
@click.option(
    "--port", type=click.IntRange(1, 65535), metavar="N", help="settings of a dnsmasq of its own, on this port"
)
def dns_dnsmasq_command(run: Run, *, address: str | None, port: int | None) -> None:
    """Print what a dnsmasq must be told to find previews by name."""
    from colony_core.config import load_config
    from colony_core.routing import dnsmasq_settings

    routing = load_config(run.environ).routing
    try:
        place = ipaddress.ip_address(address or routing.bind)
    except ValueError:
        raise Invalid("invalid-address", f"{address!r} is no address", "write one such as 192.0.2.7") from None
    if place.is_unspecified:
        place = ipaddress.ip_address("127.0.0.1" if place.version == 4 else "::1")
    run.output.lines(dnsmasq_settings(routing.domain, str(place), port=port).splitlines())
    if routing.domain.endswith(MULTICAST):
        run.output.note(
            f"! names below {MULTICAST} belong to multicast DNS: some systems never ask dnsmasq for them", "amber"
        )
