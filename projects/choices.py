from django.db import models


class MemberRole(models.TextChoices):
    OWNER = "owner", "Owner"
    EDITOR = "editor", "Editor"
    VIEWER = "viewer", "Viewer"


class Action(models.TextChoices):
    """What an actor wants to do with a project's objects."""

    VIEW = "view"
    EDIT = "edit"
    MANAGE = "manage"  # members and keys


ROLES_THAT_MAY: dict[Action, frozenset[str]] = {
    Action.VIEW: frozenset({MemberRole.OWNER, MemberRole.EDITOR, MemberRole.VIEWER}),
    Action.EDIT: frozenset({MemberRole.OWNER, MemberRole.EDITOR}),
    Action.MANAGE: frozenset({MemberRole.OWNER}),
}


class AuditAction(models.TextChoices):
    """What was done to an object."""

    ADD = "add", "Added"
    CHANGE = "change", "Changed"
    DELETE = "delete", "Deleted"
    ACT = "act", "Done"  # anything else: revoked, ended, tested, rolled back
