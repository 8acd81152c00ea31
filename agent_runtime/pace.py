"""How often something may happen."""

from __future__ import annotations

import time
from collections import deque


class RateLimit:
    """At most `most` times within any `seconds`."""

    def __init__(self, most: int, seconds: float) -> None:
        self._seconds = seconds
        self._times: deque[float] = deque(maxlen=most)

    def allows(self) -> bool:
        """Whether it may happen now; what may is counted, what may not is not."""
        now = time.monotonic()
        if len(self._times) == self._times.maxlen and now - self._times[0] < self._seconds:
            return False
        self._times.append(now)
        return True
