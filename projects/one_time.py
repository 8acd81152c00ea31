"""Forms that make something once. The page carries the id of what it will make, signed for whoever opened it; sent
twice, it would make the same row twice, which the database refuses."""

from __future__ import annotations

import uuid

from django.core import signing
from django.http import HttpRequest

FIELD = "_once"
SALT = "molts.one-time-form"


def issue(request: HttpRequest) -> str:
    """For a hidden field of the form."""
    return signing.dumps([str(uuid.uuid4()), request.user.pk], salt=SALT)


def read(request: HttpRequest) -> uuid.UUID | None:
    """The id that the posted form carries; None when it carries none of this user's."""
    try:
        made, user = signing.loads(request.POST.get(FIELD, ""), salt=SALT)
    except (signing.BadSignature, ValueError):
        return None
    return uuid.UUID(made) if user == request.user.pk else None
