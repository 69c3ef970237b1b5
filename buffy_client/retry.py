"""How long to try again: deadlines, back-off, and what `Retry-After` asks for."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from buffy_client.errors import BuffyDownloadError, BuffyTimeoutError
from buffy_client.wording import cause

log = logging.getLogger(__package__)

LONGEST_BACK_OFF_S = 30.0
LONGEST_RETRY_AFTER_S = 600.0
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that RFC 9110 §10.2.3's field asks for, as number or date; None if absent or malformed."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


class Deadline:
    """A moment by which something must be done; `Deadline(None)` never comes. Counts from its making."""

    def __init__(self, seconds: float | None, what: str) -> None:
        self._seconds, self._what = seconds, what
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self, at_most: float) -> float:
        """Seconds left, never more than `at_most`. Raises BuffyTimeoutError once there are none."""
        if self._end is None:
            return at_most
        left = self._end - time.monotonic()
        if left <= 0:
            message = f"{self._what} was not ready within {self._seconds:g} s: try later or wait longer"
            raise BuffyTimeoutError(message)
        return min(left, at_most)

    def sleep(self, seconds: float) -> None:
        """Ends early at the deadline; the next look at it raises BuffyTimeoutError."""
        time.sleep(self.left(seconds))


class Patience:
    """Counts failures in a row and waits longer after each; every progress makes it young again."""

    def __init__(self, what: str, attempts: int, first_wait_s: float, deadline: Deadline) -> None:
        self._what, self._attempts, self._first = what, attempts, first_wait_s
        self._deadline = deadline
        self._failures = 0

    def progressed(self) -> None:
        self._failures = 0

    def failed(self, why: object, wait_s: float | None = None) -> None:
        """Waits until it is time for the next attempt; `wait_s` is what the origin asked for, if it did.

        Raises BuffyDownloadError when there are no attempts left, BuffyTimeoutError when there is no time.
        """
        self._failures += 1
        words = cause(why)
        if self._failures >= self._attempts:
            raise BuffyDownloadError(f"{self._what} failed {self._failures} times in a row, at last: {words}")
        back_off = min(LONGEST_BACK_OFF_S, self._first * 2 ** (self._failures - 1))
        if (wait_s or 0) > LONGEST_RETRY_AFTER_S:
            raise BuffyDownloadError(f"{self._what}: {words}, and it asks to wait {wait_s:.0f} s: try then")
        pause = back_off if wait_s is None else wait_s
        log.info("%s: %s; again in %.1f s", self._what, words, pause)
        self._deadline.sleep(pause)
