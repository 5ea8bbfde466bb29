"""Who may come in, what they may do, what they did, and what was already answered to them.

`Keys` holds every key that opens the API in memory, so that a request is judged without waiting; only hashes are kept, in memory and in
the store. `Logins` holds the one-time codes that open a browser's session. `rights` decides, `Audit` writes down. `Idempotency` remembers
first answers, so that a request that is sent again is not carried out again.
"""

from .answers import Idempotency, Stored, fingerprint
from .audit import Audit, AuditRecord
from .guard import KEY_NAME_PATTERN, LOCAL_NAME, MOST_SECONDS, Keys, house_owner, user_name
from .keys import Identity, Role, redacted
from .logins import CODE_SECONDS, Logins
from .masking import masked_command
from .rights import ALL_ROLES, CHANGING, LOOKING, OWN, PEOPLE, Roles, belongs_to, may_change, may_see

__all__ = [
    "ALL_ROLES",
    "CHANGING",
    "CODE_SECONDS",
    "KEY_NAME_PATTERN",
    "LOCAL_NAME",
    "LOOKING",
    "MOST_SECONDS",
    "OWN",
    "PEOPLE",
    "Audit",
    "AuditRecord",
    "Idempotency",
    "Identity",
    "Keys",
    "Logins",
    "Role",
    "Roles",
    "Stored",
    "belongs_to",
    "fingerprint",
    "house_owner",
    "masked_command",
    "may_change",
    "may_see",
    "redacted",
    "user_name",
]
