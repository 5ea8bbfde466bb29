"""From the text of a colony.toml to its normal form: plain dicts, lists and scalars with the field names of `manifest`.

`lines` finds where each key stands, `mistakes` collects what is wrong, `checks` judge single values, `services` one service and all of them
together, `document` the whole in any of its spellings and over its template; `requirements` knows the tools that can be required.
"""

from .checks import a_text, variable_name
from .document import MAX_BYTES, decode_manifest, normal_form
from .mistakes import Mistake
from .requirements import TOOLS, find_version, satisfies, wanted_tools
from .services import find_cycle

__all__ = [
    "MAX_BYTES",
    "TOOLS",
    "Mistake",
    "a_text",
    "decode_manifest",
    "find_cycle",
    "find_version",
    "normal_form",
    "satisfies",
    "variable_name",
    "wanted_tools",
]
