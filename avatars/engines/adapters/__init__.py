"""The folder to put on PYTHONPATH in a model's own environment, for `python -m molts_engine_adapter`."""
