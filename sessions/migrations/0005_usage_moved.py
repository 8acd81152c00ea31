from django.core.management.color import no_style
from django.db import migrations

KEPT = "id, source_id, kind, provider, model, unit, quantity, cost, currency, created_at"


def session_type(apps):
    types = apps.get_model("contenttypes", "ContentType").objects
    # In a new database the types of models are written after all migrations.
    return types.get_or_create(app_label="live_sessions", model="livesession")[0].pk


def go_on_counting(schema_editor, model):
    """Rows that came with their id leave the table's counter (of PostgreSQL) where it was."""
    for statement in schema_editor.connection.ops.sequence_reset_sql(no_style(), [model]):
        schema_editor.execute(statement)


def move_to_usage(apps, schema_editor):
    old = apps.get_model("live_sessions", "UsageRecord")
    if old.objects.exists():
        schema_editor.execute(
            f"INSERT INTO usage_usagerecord ({KEPT}, project_id, owner_type_id, owner_id) "
            f"SELECT {', '.join(f'u.{name}' for name in KEPT.split(', '))}, s.project_id, %s, u.session_id "
            "FROM live_sessions_usagerecord u JOIN live_sessions_livesession s ON s.id = u.session_id",
            [session_type(apps)],
        )
        go_on_counting(schema_editor, apps.get_model("usage", "UsageRecord"))


def move_back(apps, schema_editor):
    new = apps.get_model("usage", "UsageRecord")
    if new.objects.exists():
        schema_editor.execute(
            f"INSERT INTO live_sessions_usagerecord ({KEPT}, session_id) "
            f"SELECT {KEPT}, owner_id FROM usage_usagerecord WHERE owner_type_id = %s",
            [session_type(apps)],
        )
        new.objects.filter(owner_type_id=session_type(apps)).delete()
        go_on_counting(schema_editor, apps.get_model("live_sessions", "UsageRecord"))


class Migration(migrations.Migration):
    """Usage rows go to `projects.usage`, where videos will have theirs too; every row keeps its id."""

    dependencies = [
        ('contenttypes', '0002_remove_content_type_name'),
        ('live_sessions', '0004_notice_reason'),
        ('usage', '0001_initial'),
    ]

    operations = [
        migrations.RunPython(move_to_usage, move_back),
        migrations.DeleteModel(
            name='UsageRecord',
        ),
    ]
