"""The admin's pages for projects with their members and keys, for users and for the audit trail."""

from projects.admin.api_keys import ApiKeyAdmin
from projects.admin.audit_trail import AuditEntryAdmin
from projects.admin.projects import ProjectAdmin
from projects.admin.provider_keys import ProviderKeyAdmin
from projects.admin.users import UserAdmin

__all__ = ["ApiKeyAdmin", "AuditEntryAdmin", "ProjectAdmin", "ProviderKeyAdmin", "UserAdmin"]
