"""Where a browser finds an agent's face."""

from __future__ import annotations

from django.templatetags.static import static

from avatars.models import Avatar


def portrait_url(avatar: Avatar | None) -> str | None:
    """Path of the uploaded or built-in portrait; None without one."""
    if avatar is None:
        return None
    if avatar.portrait:
        return avatar.portrait.url
    return static(f"src/portraits/{avatar.builtin}.webp") if avatar.builtin else None
