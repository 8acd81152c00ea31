"""Places in a picture as they are marked by hand: fractions of its width and height, (0, 0) its upper left corner."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
FractionPoint = tuple[Fraction, Fraction]
FractionBox = tuple[Fraction, Fraction, Fraction, Fraction]
"""Left, top, width and height."""
