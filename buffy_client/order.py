"""An order that a server has accepted: which version answers it, and waiting until that is ready.

    place ──> choose ──> wait / in_progress ──> ready ──> content
                 ^             │
                 │             ├─> failed     the newest good version answers, else BuffyCacheEmptyError
                 └─ forgotten ─┴─> duplicate  the version that it equals answers

A server that is restarted meanwhile is waited for: it takes its orders up again. One that does not know the
version any more gets the order once more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import requests

from buffy_client.api import Api
from buffy_client.choice import Wishes, choose
from buffy_client.errors import BuffyCacheEmptyError, BuffyUnreachableError
from buffy_client.models import RequestIn, Response
from buffy_client.progress import Bar
from buffy_client.retry import Deadline, Patience
from buffy_client.strategies import RequestCacheConfiguration
from buffy_client.transfer import Transfer, known_digest
from buffy_client.wording import shown

log = logging.getLogger(__package__)
Result = TypeVar("Result")

LONG_POLL_S, LIVELY_POLL_S = 30.0, 1.0
PAUSES_S = (0.02, 0.05, 0.1, 0.2, 0.3)
REGISTRATION_S = 60.0
NEVER = Deadline(None, "")


class Order:
    """`outage_s`: how long a server that vanished may stay away before BuffyUnreachableError is raised."""

    def __init__(self, api: Api, wanted: RequestIn, outage_s: float) -> None:
        self.down: BuffyUnreachableError | None = None
        self._api, self._wanted, self._outage = api, wanted, outage_s
        self._url = shown(wanted.url)
        self._chosen: Response | None = None
        self._wishes: Wishes | None = None
        self._place()

    def _place(self) -> None:
        self.ticket = self._api.order(self._wanted)
        self._chosen, config = None, self._wanted.cache_configuration
        if config is not None and config != self.ticket.cache_configuration:
            self.configure(config)
        if not self.ticket.current_known:
            deadline = Deadline(REGISTRATION_S, f"the order of {self._url}")
            turns = 0
            while not self._api.registered(self.ticket):
                deadline.sleep(_pause(turns := turns + 1))

    def configure(self, config: RequestCacheConfiguration) -> None:
        """Puts the configuration in force; the ticket then holds what the server stored."""
        self.ticket = replace(self.ticket, cache_configuration=self._api.configure(self.ticket, config))

    # -- which version ---------------------------------------------------------------------------------------
    def current(self, wishes: Wishes, deadline: Deadline = NEVER) -> Response:
        """The version that is meant, ready or not; looked up again only when the wishes have changed.

        Raises BuffyForcedVersionError, BuffyCacheEmptyError.
        """
        if self._chosen is None or wishes != self._wishes:
            found = self._ask(lambda: choose(self._api, self.ticket, wishes), deadline)
            if found is None:
                raise BuffyCacheEmptyError(f"the server has no version of {self._url}, and fetches none")
            self._chosen, self._wishes = found, wishes
        return self._chosen

    def refreshed(self, wishes: Wishes) -> Response:
        """The current version as the server has it now."""
        name = self.current(wishes).version
        found = self._ask(lambda: self._api.version(self.ticket, name))
        self._chosen = found or self._chosen
        assert self._chosen is not None
        return self._chosen

    def wait(self, wishes: Wishes, deadline: Deadline, bar: Bar, lively: bool = False) -> Response:
        """The version that is meant, once it is ready. `lively`: with figures for the bar meanwhile.

        Raises BuffyCacheEmptyError, BuffyForcedVersionError, BuffyTimeoutError, BuffyUnreachableError.
        """
        turns = 0
        while (now := self.current(wishes, deadline)).status != "ready":
            if now.pending:
                self._watch(now, deadline, LIVELY_POLL_S if lively else LONG_POLL_S, turns)
                turns += 1
                if stats := now.download_stats:
                    bar.show(stats.downloaded_bytes, stats.total_bytes_to_download)
            else:
                self._chosen = self._instead_of(now, wishes, deadline)
        return now

    def wait_for_name(self, wishes: Wishes, deadline: Deadline, bar: Bar) -> str | None:
        """The file name, as soon as the origin's headers are there."""
        turns = 0
        while (now := self.current(wishes, deadline)).pending and now.content_attributes.filename is None:
            self._watch(now, deadline, 0, turns)
            turns += 1
        if not now.pending:
            now = self.wait(wishes, deadline, bar)
        return now.content_attributes.filename

    def _watch(self, pending: Response, deadline: Deadline, poll_s: float, turns: int) -> None:
        """Asks once how far it is; holds for up to `poll_s` seconds until it is done, if the server can."""
        began = time.monotonic()
        seconds = int(deadline.left(poll_s or 1)) if poll_s else 0
        found = self._ask(lambda: self._api.version(self.ticket, pending.version, seconds), deadline)
        if found is None:
            log.info("the server forgot version %s of %s: ordered again", pending.version, self._url)
            deadline.sleep(_pause(turns))
            self._ask(self._place, deadline)
            return
        self._chosen = found
        if found.pending and time.monotonic() - began < min(1, seconds or 1) / 2:  # a server that cannot hold
            deadline.sleep(_pause(turns))

    def _instead_of(self, bad: Response, wishes: Wishes, deadline: Deadline) -> Response:
        """Another version for one that failed or is a duplicate."""
        if bad.status == "duplicate" and (twin := bad.previous_version):
            found = self._ask(lambda: self._api.version(self.ticket, twin), deadline)
            if found is not None:
                return found
        url = self._url
        if wishes.forced:
            raise BuffyCacheEmptyError(f"{url} with {wishes.force} failed to download: {bad.reason}")
        good = self._ask(lambda: self._api.latest(self.ticket, status="ready"), deadline)
        if good is None:
            raise BuffyCacheEmptyError(f"{url} failed to download, and no version is stored: {bad.reason}")
        if bad.status == "failed":
            log.warning("%s failed to download (%s); version %s answers", url, bad.reason, good.version)
        return good

    # -- its content -----------------------------------------------------------------------------------------
    def transfer(self, response: Response, patience: Patience) -> Transfer:
        """The stored bytes of a ready version, verified by length, and by digest where one is known."""

        def opened(condition: Mapping[str, str]) -> requests.Response:
            try:
                answer = self._api.content(response, condition)
            except BuffyUnreachableError as error:
                self.down = error
                raise
            self.down = None
            return answer

        digest = known_digest(self.ticket.validation_hash_type, response.content_hash_hex)
        what = f"version {response.version} of {self._url}"
        return Transfer(what, opened, patience, digest)

    def _ask(self, call: Callable[[], Result], deadline: Deadline = NEVER) -> Result:
        """The call's result, however often the server has to be asked within the outage it may have."""
        end, turns = time.monotonic() + self._outage, 0
        while True:
            try:
                result = call()
            except BuffyUnreachableError as error:
                self.down = error
                if time.monotonic() > end:
                    raise
                deadline.sleep(_pause(turns := turns + 1))
            else:
                self.down = None
                return result


def _pause(turns: int) -> float:
    return PAUSES_S[min(turns, len(PAUSES_S) - 1)]
