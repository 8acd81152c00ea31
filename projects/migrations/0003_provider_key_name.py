from django.db import migrations


class Migration(migrations.Migration):
    """Only how the model is called in texts; the database stays as it is."""

    dependencies = [("projects", "0002_audit_entry")]

    operations = [
        migrations.AlterModelOptions(
            name="providerkey",
            options={"ordering": ("provider", "name"), "verbose_name": "provider key"},
        ),
    ]
