"""Speech recognition for every conversation on a box: one process holds the model, all others ask it."""
