"""Checks of `manage.py doctor` by theme. `molts/doctor.py` lists and runs them all."""
