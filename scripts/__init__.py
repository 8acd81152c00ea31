"""Programs for whoever works on molts. Each runs by itself: `python scripts/<name>.py`."""
