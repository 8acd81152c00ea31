"""Faces that a vendor renders, one file a vendor; `face` is what they have in common."""
