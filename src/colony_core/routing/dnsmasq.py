"""What a dnsmasq must be told to find previews by name. Pure."""

import ipaddress


def dnsmasq_settings(domain: str, address: str, *, port: int | None = None) -> str:
    """Lines for a file of `/etc/dnsmasq.d`: every name below `domain` is `address`, and nobody else is asked for them.

    With `port`, the whole settings of a dnsmasq on loopback that answers for nothing else.
    """
    lines = [f"address=/{domain}/{ipaddress.ip_address(address)}", f"local=/{domain}/"]
    if port is not None:
        lines += [f"port={port}", "listen-address=127.0.0.1", "bind-interfaces", "no-resolv", "no-hosts"]
    return "".join(f"{line}\n" for line in lines)
