"""What the folder of a colony says of it: its manifest, or a template's where it has none."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import trio

from colony_core.errors import Invalid, NotFound

from .manifest import MANIFEST_FILE, Manifest, read_manifest, read_manifest_file
from .templates import load_templates


async def manifest_in(folder: str, *, templates: Path, template: str | None, needed: bool = True) -> Manifest:
    """The manifest of a folder. One without is run from the template that is named, or with nothing where none is `needed`.

    Raises Invalid, NotFound.
    """
    known = await trio.to_thread.run_sync(load_templates, templates)
    return await trio.to_thread.run_sync(
        partial(_read, Path(folder), templates=known, template=template, needed=needed)
    )


async def check_template(template: str, *, templates: Path) -> None:
    """Raises Invalid where there is no such template, or it is wrong."""
    known = await trio.to_thread.run_sync(load_templates, templates)
    read_manifest("[colony]\n", where=template, templates=known, template=template)


def _read(folder: Path, *, templates: Mapping[str, str], template: str | None, needed: bool) -> Manifest:
    if not folder.is_absolute():
        raise Invalid(
            "path-not-absolute", f"{folder} is not an absolute path", "give the whole path of the colony's folder"
        )
    if not folder.is_dir():
        raise NotFound(
            "folder-not-found", f"there is no folder {folder}", f"give the folder that holds {MANIFEST_FILE}"
        )
    path = folder / MANIFEST_FILE
    if (template is not None or not needed) and not path.exists():
        return read_manifest("[colony]\n", where=str(path), templates=templates, template=template)
    return read_manifest_file(path, templates=templates, template=template)
