"""The one tree of errors.

Every error that can reach a user is a `MoltsError`: it knows a stable machine-readable `code`, the HTTP status that
answers it, and whether trying again can help. The API turns it into one JSON shape (`molts.api.exception_handler`),
pages into a short text, commands into one line.

    MoltsError
    ├── BadInput            400  the caller can mend it
    │   └── WrongMethod     405  the address answers other HTTP methods
    ├── NotAllowed          403  known, but may not
    ├── NotFound            404  does not exist, or is another project's
    ├── Conflict            409  the state does not allow it (any more)
    ├── Gone                410  existed, is over (expired or revoked link, ended session)
    ├── TooLarge            413  more bytes than are read
    ├── Busy                429  full or too fast; retry later
    ├── BadConfiguration    500  the installation or the agent is set up wrongly; the text says how to mend it
    └── Unavailable         503  a part is out of reach; retry later
"""

from __future__ import annotations

# What stands in texts, logs and answers where a key or a password was.
HIDDEN = "[hidden]"


def encodable(text: str) -> str:
    """`text` as UTF-8 can carry it: JSON may name halves of characters, and an error that repeats them must be sent."""
    return text.encode("utf-8", "replace").decode()


class MoltsError(Exception):
    """An error with a meaning for whoever called. `detail` is shown to people: short, and says what to do."""

    code: str = "error"
    http_status: int = 500
    retryable: bool = False

    def __init__(self, detail: str, *, code: str | None = None, attr: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.attr = attr
        if code is not None:
            self.code = code


class BadInput(MoltsError):
    code = "invalid"
    http_status = 400


class WrongMethod(BadInput):
    code = "method_not_allowed"
    http_status = 405


class NotAllowed(MoltsError):
    code = "permission_denied"
    http_status = 403


class NotFound(MoltsError):
    code = "not_found"
    http_status = 404


class Conflict(MoltsError):
    code = "conflict"
    http_status = 409


class Gone(MoltsError):
    code = "gone"
    http_status = 410


class TooLarge(MoltsError):
    code = "too_large"
    http_status = 413


class Busy(MoltsError):
    code = "busy"
    http_status = 429
    retryable = True


class BadConfiguration(MoltsError):
    code = "bad_configuration"
    http_status = 500


class Unavailable(MoltsError):
    code = "unavailable"
    http_status = 503
    retryable = True
