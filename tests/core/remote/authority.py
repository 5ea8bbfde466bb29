"""A certificate authority for tests, by openssl."""

import ssl
import subprocess
from pathlib import Path

HERE = "DNS:localhost,IP:127.0.0.1"
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """Issues certificates that hold for whoever trusts the file `root`; one for this machine is there from the beginning."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root.crt"
        self._folder = folder
        self._run("req", "-x509", *_KEY, "-subj", "/CN=Tests", "-keyout", "root.key", "-out", "root.crt")
        self.issue("here", HERE)

    def issue(self, name: str, names: str, *, days: int = 2) -> ssl.SSLContext:
        """A server with a certificate for `names` that ends in so many days."""
        (self._folder / "names").write_text(f"subjectAltName={names}")
        self._run("req", *_KEY, "-subj", "/CN=a server", "-keyout", f"{name}.key", "-out", "wish")
        signed = ("-CA", "root.crt", "-CAkey", "root.key", "-CAcreateserial", "-extfile", "names", "-days", str(days))
        self._run("x509", "-req", "-in", "wish", *signed, "-out", f"{name}.crt")
        return serving(self.root, name)

    def _run(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self._folder, check=True, capture_output=True)


def serving(root: Path | str, name: str = "here") -> ssl.SSLContext:
    """A server with a certificate that the authority has issued."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(Path(root).with_name(f"{name}.crt"), Path(root).with_name(f"{name}.key"))
    return context
