"""Manifests to start from: Colony's own, and those of the user's templates folder."""

from importlib.resources import files
from pathlib import Path

from colony_core.errors import Invalid

from .reading import MAX_BYTES

BUILTIN = ("web-app", "api-service", "full-stack")


def load_templates(folder: Path) -> dict[str, str]:
    """The text of every template by name; a file `NAME.toml` in `folder` comes before a template of Colony's own with that name.

    Blocks: for a thread. A file that is no good template is told when somebody uses it; one that cannot be read raises Invalid.
    """
    own = files(__package__) / "builtin_templates"
    templates = {name: (own / f"{name}.toml").read_text(encoding="utf-8") for name in BUILTIN}
    for path in sorted(folder.glob("*.toml")) if folder.is_dir() else ():
        if path.is_file() and not path.name.startswith("."):
            templates[path.stem] = _text(path)
    return templates


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            # what is no UTF-8, and what is too large, is refused by whoever reads the text as a manifest
            return file.read(MAX_BYTES + 1).decode(errors="surrogateescape")
    except OSError as error:
        raise Invalid(
            "unreadable-template", f"{path}: {error.strerror}", "mend the file's rights, or remove it"
        ) from error
