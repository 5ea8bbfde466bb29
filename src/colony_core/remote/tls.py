"""TLS to a daemon's front: what certificates are held to, and what is said of one that is refused. Nothing turns the check off."""

import ssl

from colony_core.errors import Invalid, Unreachable

_ANOTHER_NAME = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH, see x509_vfy.h."""
_ANOTHER_TIME = frozenset({9, 10})
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""


def trust(ca_file: str | None) -> ssl.SSLContext:
    """Holds certificates to the authorities in `ca_file` alone, else to the system's; the name is always checked.

    Reads files, which takes some ten milliseconds for the system's. Raises Invalid (`invalid-ca-file`).
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise Invalid("invalid-ca-file", f"COLONY_CA_FILE {ca_file}: {reason(error)}", "name a file in PEM") from error
    context.set_alpn_protocols(["http/1.1"])
    return context


def refused(where: object, error: ssl.SSLError) -> Unreachable:
    """What to say where TLS failed: by a certificate that does not hold, or since no TLS is spoken there."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        return Unreachable(
            "tls-failed",
            f"no TLS with {where}: {reason(error)}",
            "does a front with TLS serve this name there? docs/previews.md",
        )
    if error.verify_code in _ANOTHER_NAME:
        hint = "call it by a name in its certificate"
    elif error.verify_code in _ANOTHER_TIME:
        hint = "renew it, or set this machine's clock"
    else:
        hint = "for an authority of your own: COLONY_CA_FILE=/path/to/root.crt"
    return Unreachable("certificate-refused", f"the certificate of {where} does not hold: {reason(error)}", hint)


def reason(error: OSError) -> str:
    """Why, in words, without the place in OpenSSL's source."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.rstrip(".")
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    if isinstance(error, TimeoutError) and not error.strerror:
        return "nobody answered in time"
    return error.strerror or str(error) or type(error).__name__
