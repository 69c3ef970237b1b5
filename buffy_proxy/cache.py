"""The shell around the core: asks it, then moves bytes.

A door calls `open(request)` and gets an Answer. The way there:

    key, versions ──decide──> Serve        answer from the store
                              Unavailable  504 (offline, only-if-cached)
                              Validate     ┐ a flight: one request to the origin for all who want this key;
                              Forward      ┘ its outcome is a validation, a new response, or a failure
                                             failure ──may_serve_stale──> a stored version, marked stale

Requests that can be neither answered nor stored (other methods, ranges of what is not stored) are passed on
without a flight. Errors of the store never reach a client: the request is then forwarded and not stored.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from buffy_proxy import serving
from buffy_proxy.answer import Answer, gateway_error, last_recipient, passed_fields, plain, proxy_status
from buffy_proxy.changes import Changes
from buffy_proxy.config import Config
from buffy_proxy.core import fields as f
from buffy_proxy.core import rules
from buffy_proxy.core.model import Fields, Request, Resource, Response, Version
from buffy_proxy.errors import OriginError, StoreError
from buffy_proxy.fetch import Asking, Errand, Fetcher
from buffy_proxy.flights import Arriving, Failed, Flight, Flights, Validated
from buffy_proxy.keeping import Keeper
from buffy_proxy.lookup import Looked, explain, look_up, policy_of, policy_of_order
from buffy_proxy.orders import wanted_of
from buffy_proxy.origin import OriginResponse, Origins
from buffy_proxy.parts import PartKeeper
from buffy_proxy.peers import Nothing, Peers
from buffy_proxy.spool import READ_SIZE
from buffy_proxy.store import Store

__all__ = ["Cache", "explain", "failure_in"]

log = logging.getLogger("buffy.cache")

LANDING_S = 60.0
"""How long a request waits for the commit of a body that is whole (a slow disk takes its time to sync)."""

ROUNDS = 3
TURN_S = 0.05
"""How often background work looks whether another worker still fetches what it wants to fetch."""

REMEMBERED = 10_000
"""Keys of such responses at most."""

FORBIDDEN = (
    "A version is stored, but its origin forbids stale answers (must-revalidate, no-cache or s-maxage); "
    "pin it, write a rule for it, or ask in offline mode to get it all the same."
)

NOT_COLLAPSED_S = 60.0
"""For so long after a response that could not be stored, requests for its key do not wait for each other."""


class Cache:
    """The decision and the bytes, for every door of this process. Runs in one event loop. `peers`: the other
    workers of the server, None where there are none."""

    def __init__(
        self,
        store: Store,
        config: Config,
        origins: Origins,
        clock: Callable[[], float] = time.time,
        peers: Peers | None = None,
    ) -> None:
        self.store = store
        self.config = config
        self.flights = Flights(None if peers is None else peers.table)
        self._origins = origins
        self._clock = clock
        self._peers = peers
        self._not_collapsed: dict[str, float] = {}
        keeper = Keeper(store, config.plugins, clock)
        self._parts = PartKeeper(store, self.flights, keeper, clock)
        self._fetcher = Fetcher(store, config, origins, clock, self._remember_not_collapsed)
        self.changes = Changes(store, config, self.flights, self._parts, keeper, clock)

    def now(self) -> float:
        return self._clock()

    # -- the way in ---------------------------------------------------------------------------------------
    async def open(self, request: Request, looked: Looked | None = None) -> Answer:
        """The answer to a request. Never raises for the origin's or the store's sake. `looked` is what
        `open_now` gave a moment ago."""
        if (own := rules.answers_itself(request)) is not None:
            return last_recipient(request, own)
        try:
            if looked is None or not looked.holds(self.store):
                looked = look_up(self.store, self.config, request)
            if await self.land(looked.key.id):
                looked = look_up(self.store, self.config, request)
            decision = looked.decide(self._clock())
        except StoreError as error:
            log.error("cannot read the store, forwarding: %s", error)
            return await self._pass_on(_Asked(request, None, "bypass"), "the store cannot be read")
        except Exception:
            log.exception("cannot decide, forwarding")
            return await self._pass_on(_Asked(request, None, "bypass"), "internal error")
        return await self._answer(looked, decision)

    def open_now(self, request: Request) -> Answer | Looked | None:
        """The answer, where the store has it and nothing needs to be awaited. Else use `open`, with what was
        looked up, if anything was."""
        looked = None
        try:
            looked = look_up(self.store, self.config, request)
            decision = looked.decide(self._clock())
            if isinstance(decision, rules.Serve) and decision.version.body.size <= READ_SIZE:
                answer = self._serve(looked, decision.version, detail=decision.detail)
                if answer.stream is None:
                    if decision.detail == "" and not decision.stale and looked.steady:
                        answer.version, answer.stamp = decision.version, looked.stamp
                    if decision.renew is not None:
                        self._renew_behind(looked, decision.renew)
                    return answer
                answer.close()
        except StoreError:
            pass
        except Exception:
            log.exception("cannot answer at once")
        return looked

    async def _answer(self, looked: Looked, decision: rules.Decision, rounds: int = ROUNDS) -> Answer:
        """`rounds` bounds how often what another worker has just stored makes us decide anew."""
        if self._peers and rounds and not isinstance(decision, rules.Serve):
            answer = await self._of_peers(self._peers, looked, decision, rounds)
            if answer is not None:
                return answer
        match decision:
            case rules.Serve() as serve:
                if serve.renew is not None:
                    self._renew_behind(looked, serve.renew)
                try:
                    return self._serve(looked, serve.version, detail=serve.detail)
                except StoreError as error:
                    if looked.request.offline:
                        return _unavailable(looked.key.url, f"offline, and {error}")
                    return await self._fly(looked, rules.Forward("miss", "the stored body is gone"))
            case rules.Unavailable() as none:
                return _unavailable(looked.key.url, none.reason)
            case rules.Validate() | rules.Forward() as asking:
                if not _flies(looked, asking):
                    asked = _Asked(looked.request, looked, asking.fwd)
                    return await self._pass_on(asked, asking.reason)
                return await self._fly(looked, asking)

    def _serve(self, looked: Looked, version: Version, *, detail: str = "", forwarded: bytes = b"") -> Answer:
        """An answer from a stored version; `forwarded` is the Cache-Status of a request that went forward
        all the same. Raises BodyMissing."""
        now = self._clock()
        status = forwarded or f.cache_status(hit=True, ttl=version.fresh_until - now, detail=detail)
        replay = bool(looked.key.partition) or looked.policy.replay_set_cookie
        fields = rules.answer_fields(version, now, status, replay_cookies=replay)
        return serving.from_store(self.store, looked.request, version, fields, status)

    # -- one request to the origin for all who wait -------------------------------------------------------
    async def _fly(self, looked: Looked, asking: Asking) -> Answer:
        if self._goes_alone(looked):
            return await self._alone(looked, asking)
        flight, leads = self.flights.join(
            looked.key.id, lambda flight: self._fetcher.lead(flight, Errand(looked, asking))
        )
        answer = await self._ride(flight, looked, asking, collapsed=not leads)
        return answer or await self._alone(looked, asking)

    async def _own_turn(self, key_id: str) -> bool:
        """Waits while another worker flies for this key, then claims it for this one. Gives whether it had to
        wait."""
        waited = False
        while self.flights.elsewhere(key_id) is not None:
            waited = True
            await asyncio.sleep(TURN_S)
        return waited

    def _renew_behind(self, looked: Looked, asking: rules.Validate) -> None:
        """Validates while the client has its answer already (RFC 5861 §3): one request at a time, and for the
        content also where only the head was asked for."""
        if self.flights.elsewhere(looked.key.id) is not None:
            return
        if looked.request.method == "HEAD":
            looked = replace(looked, request=replace(looked.request, method="GET"))
        errand = Errand(looked, asking)
        self.flights.join(looked.key.id, lambda flight: self._fetcher.lead(flight, errand), kept=True)

    async def _alone(self, looked: Looked, asking: Asking) -> Answer:
        flight = self.flights.solo(
            looked.key.id, lambda flight: self._fetcher.lead(flight, Errand(looked, asking))
        )
        answer = await self._ride(flight, looked, asking, collapsed=False)
        if answer is None:
            return await self._pass_on(_Asked(looked.request, looked, asking.fwd), asking.reason)
        return answer

    async def _ride(
        self, flight: Flight, looked: Looked, asking: Asking, *, collapsed: bool
    ) -> Answer | None:
        """This client's answer from a flight's outcome; None where the outcome is of no use to it."""
        answer = None
        flight.enter()
        try:
            outcome = await asyncio.shield(flight.outcome)
            match outcome:
                case Validated() if looked.matches(outcome.version):
                    status = f.cache_status(
                        fwd=asking.fwd, fwd_status=outcome.fwd_status, collapsed=collapsed
                    )
                    return self._serve(looked, outcome.version, forwarded=status)
                case Arriving() if not collapsed or self._may_follow(outcome, looked):
                    answer = self._along(flight, outcome, looked, asking, collapsed=collapsed)
                    return answer
                case Failed() if outcome.error.word != "proxy_internal_error":
                    # Those who waited in vain and have nothing stored ask for themselves.
                    if not collapsed or looked.fallback(outcome.failure, self._clock()) is not None:
                        return self._instead(_Asked(looked.request, looked, asking.fwd), outcome)
        except StoreError:
            pass  # the stored body is gone
        finally:
            if answer is None or answer.stream is None:
                flight.leave()
        return None

    def _may_follow(self, outcome: Arriving, looked: Looked) -> bool:
        spool = outcome.spool
        return outcome.stored and spool.joinable and spool.error is None and looked.matches(outcome.draft)

    def _along(
        self, flight: Flight, arriving: Arriving, looked: Looked, asking: Asking, *, collapsed: bool
    ) -> Answer:
        """The new response, read along from the flight's spool."""
        head, spool = arriving.response, arriving.spool
        status = f.cache_status(
            fwd=asking.fwd,
            fwd_status=head.status,
            stored=arriving.stored and spool.storing,
            collapsed=collapsed,
            detail=arriving.not_stored_because,
        )
        if collapsed:
            replay = bool(looked.key.partition) or looked.policy.replay_set_cookie
            head = replace(head, fields=rules.shared_fields(arriving.draft.fields, replay_cookies=replay))
        fields = passed_fields(head, status)
        if head.status == 200 and (
            answer := serving.conditional(looked.request, arriving.draft, fields, status)
        ):
            flight.answered_early = True
            return answer
        if arriving.size is not None and (content := spool.whole()) is not None:
            return _of_flight(looked, head, fields, status, collapsed, content=content)
        token = spool.subscribe()

        def close() -> None:
            spool.unsubscribe(token)
            flight.leave()

        stream = spool.read(token)
        return _of_flight(
            looked, head, fields, status, collapsed, stream=stream, size=arriving.size, on_close=close
        )

    async def land(self, key_id: str) -> bool:
        """Waits where something for this key is whole and only the commit is missing: that turns a copy of a
        miss into a hit. False: nothing is."""
        flight = self.flights.get(key_id)
        if flight is not None and isinstance(outcome := flight.known(), Arriving) and outcome.landing:
            self.store.hurry()
            await flight.ended(LANDING_S)
        elif part := self._parts.landing(key_id):
            await asyncio.wait([part], timeout=LANDING_S)
        else:
            return False
        return True

    def _goes_alone(self, looked: Looked) -> bool:
        return self._not_collapsed.get(looked.key.id, 0.0) > self._clock()

    def _remember_not_collapsed(self, key_id: str) -> None:
        """Oldest first, so that what is over goes from the front: the time for one does not grow with all."""
        now, remembered = self._clock(), self._not_collapsed
        remembered.pop(key_id, None)
        remembered[key_id] = now + NOT_COLLAPSED_S
        while len(remembered) > REMEMBERED or next(iter(remembered.values())) <= now:
            del remembered[next(iter(remembered))]

    # -- with other workers -------------------------------------------------------------------------------
    async def _of_peers(
        self, peers: Peers, looked: Looked, decision: rules.Decision, rounds: int
    ) -> Answer | None:
        """The answer by way of what another worker has under way; None: this one is to answer by itself."""
        try:
            if isinstance(decision, rules.Validate | rules.Forward) and _flies(looked, decision):
                answer = await self._of_flight(peers, looked, decision)
            else:
                answer = await self._landed_elsewhere(peers, looked)
            if answer is not Nothing.OVER:
                return answer if isinstance(answer, Answer) else None
            looked = look_up(self.store, self.config, looked.request)
            decision = looked.decide(self._clock())
        except StoreError:
            return None
        return await self._answer(looked, decision, rounds - 1)

    async def _of_flight(self, peers: Peers, looked: Looked, asking: Asking) -> Answer | Nothing | None:
        """From another worker's flight. OVER: what is stored has changed; None: this worker is to fly."""
        key_id = looked.key.id
        if self._goes_alone(looked) or self.flights.get(key_id) is not None:
            return None
        worker = self.flights.elsewhere(key_id)
        if worker is None:
            if (changed := self._changed(looked)) is not None:
                self.flights.give_back(key_id)
            return changed
        answer = await peers.follow(worker, looked.request)
        if answer is Nothing.UNFIT:
            return await self._alone(looked, asking)
        return self._unless_dead(peers, key_id, worker, answer)

    async def _landed_elsewhere(self, peers: Peers, looked: Looked) -> Answer | Nothing | None:
        """For requests that wait for no flight: only for a commit."""
        key_id = looked.key.id
        worker = peers.table.owner(key_id)
        if worker in (0, peers.table.worker):
            return self._changed(looked)
        answer = await peers.land(worker, key_id)
        return (
            self._changed(looked)
            if answer is Nothing.UNFIT
            else self._unless_dead(peers, key_id, worker, answer)
        )

    def _changed(self, looked: Looked) -> Nothing | None:
        """OVER where another worker's commit came after our look-up."""
        return None if looked.holds(self.store) else Nothing.OVER

    def _unless_dead(
        self, peers: Peers, key_id: str, worker: int, answer: Answer | Nothing
    ) -> Answer | Nothing:
        """What a dead worker had claimed is free again, and to be decided about anew."""
        if answer is not Nothing.DEAD:
            return answer
        peers.table.release(key_id, worker)
        return Nothing.OVER

    async def follow(self, request: Request) -> Answer | Nothing:
        """For another worker: the answer of the flight that is under way here."""
        looked = look_up(self.store, self.config, request)
        landed, flight = await self.land(looked.key.id), self.flights.get(looked.key.id)
        decision = looked.decide(self._clock())
        if landed or flight is None or not isinstance(decision, rules.Validate | rules.Forward):
            self.flights.give_back(looked.key.id)
            return Nothing.OVER
        return await self._ride(flight, looked, decision, collapsed=True) or Nothing.UNFIT

    # -- when the origin fails ----------------------------------------------------------------------------
    def _instead(self, asked: _Asked, failed: Failed) -> Answer:
        """A stored version answers if it may, else a gateway error says why."""
        looked = asked.looked
        if looked is not None and (version := looked.fallback(failed.failure, self._clock())):
            detail = f"stale: {failed.error}"
            forwarded = b""
            if failed.status is not None:
                forwarded = f.cache_status(fwd=asked.fwd, fwd_status=failed.status, detail=detail)
            try:
                answer = self._serve(looked, version, detail=detail, forwarded=forwarded)
                answer.origin_error = failed.error.word
                answer.fields = (*answer.fields, proxy_status(failed.error))
                return answer
            except StoreError:
                log.warning("the body of a stored version of %s is gone", looked.key.url)
        forbidden = looked is not None and any(looked.matches(version) for version in looked.versions)
        hint = FORBIDDEN if forbidden else "Nothing is stored that could answer instead."
        return gateway_error(self._shown(asked), asked.fwd, failed.error, hint)

    def _shown(self, asked: _Asked) -> str:
        if asked.looked is not None:
            return asked.looked.key.url
        return rules.redact_url(asked.request.url, self.store.secret)

    # -- passing on ---------------------------------------------------------------------------------------
    async def _pass_on(self, asked: _Asked, reason: str) -> Answer:
        """Forwards one request as it is; nothing is stored."""
        request = asked.request
        if request.offline:
            return _unavailable(self._shown(asked), f"offline, and {reason}")
        fields = rules.forward_fields(request, drop_conditionals=False)
        requested_at = self._clock()
        try:
            origin = await self._origins.fetch(request.method, request.url, fields, request.body)
        except OriginError as error:
            if asked.looked is not None:
                self._fetcher.tell_failure(asked.looked, Failed(error))
            return self._instead(asked, Failed(error))
        try:
            if asked.looked is not None and (failed := self._fetcher.as_failure(asked.looked, origin.head)):
                await origin.drain()
                return self._instead(asked, failed)
            await self.changes.invalidate(request, origin.head)
            if (answer := await self._answer_head(asked, origin, requested_at, reason)) is not None:
                return answer
        except BaseException:
            origin.abort()
            raise
        head, status = (
            origin.head,
            f.cache_status(fwd=asked.fwd, fwd_status=origin.head.status, detail=reason),
        )
        kept = None
        if asked.looked is not None and asked.fwd == "partial":
            kept = self._parts.keeps(asked.looked, origin, requested_at)
        return Answer(
            head.status,
            head.reason,
            passed_fields(head, status),
            cache_status=status,
            stream=origin.chunks() if kept is None else self._parts.recording(kept),
            size=origin.size,
            on_close=origin.abort,
        )

    async def _answer_head(
        self, asked: _Asked, origin: OriginResponse, requested_at: float, reason: str
    ) -> Answer | None:
        """From the stored version, where a 200 to HEAD made it current."""
        if asked.looked is None or asked.request.method != "HEAD" or origin.head.status != 200:
            return None
        fresher = await self.changes.by_head(asked.looked, origin.head, requested_at)
        if fresher is None:
            return None
        await origin.drain()
        status = f.cache_status(fwd=asked.fwd, fwd_status=200, detail=reason)
        return self._serve(asked.looked, fresher, forwarded=status)

    # -- background work ----------------------------------------------------------------------------------
    async def renew(self, resource: Resource, version: Version) -> Failed | None:
        """Renews one version as its strategy says, collapsed with what clients ask.

        None: the origin answered well, and what it said is committed.
        """
        key, ordered = resource.key, "wanted" in resource.info
        if await self._own_turn(key.id) and self.store.version(key.id, version.name) != version:
            self.flights.give_back(key.id)
            return None
        request = Request(key.method, key.url, version.request_fields, group=key.group)
        if ordered:
            request = wanted_of(resource).request()
        policy = (policy_of_order if ordered else policy_of)(self.config, request, resource)
        plan = policy.strategy.plan(version, self._clock(), key.url)
        looked = Looked(request, key, policy, self.store.versions(key.id), None, self.config.plugins)
        asking = rules.Validate(version, plan.renewal, "stale", "renewed in the background")
        errand = Errand(looked, asking, follow=ordered)
        flight, _ = self.flights.join(key.id, lambda flight: self._fetcher.lead(flight, errand), kept=True)
        await flight.ended()
        return failure_in(flight)

    async def fetch_ordered(self, resource: Resource, name: str) -> Flight | None:
        """The flight that carries out an order: the one under way for this resource, or a new one whose
        version will bear `name`. None: what is stored may answer by now. Raises ValueError for an order that
        cannot be requested."""
        await self._own_turn(resource.id)
        try:
            return self._fetch_ordered(resource, name)
        finally:
            self.flights.give_back(resource.id)

    def _fetch_ordered(self, resource: Resource, name: str) -> Flight | None:
        request = replace(wanted_of(resource).request(), offline=self.config.offline)
        policy = policy_of_order(self.config, request, resource)
        versions = self.store.versions(resource.id)
        looked = Looked(request, resource.key, policy, versions, None, self.config.plugins)
        match looked.decide(self._clock()):
            case rules.Serve():
                return None
            case rules.Unavailable(reason):
                raise ValueError(reason)
            case asking:
                errand = Errand(looked, asking, name, follow=True)
        flight, _ = self.flights.join(resource.id, lambda flight: self._fetcher.lead(flight, errand))
        return flight


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that goes to the origin outside a flight; `looked` is None where the store cannot be read."""

    request: Request
    looked: Looked | None
    fwd: f.Fwd


def _of_flight(
    looked: Looked, head: Response, fields: Fields, status: bytes, collapsed: bool, **body: Any
) -> Answer:
    source: Literal["cache", "origin"] = "cache" if collapsed else "origin"
    answer = Answer(head.status, head.reason, fields, cache_status=status, source=source, **body)
    answer.resource_id = looked.key.id
    return answer


def _flies(looked: Looked, asking: Asking) -> bool:
    return looked.request.method != "HEAD" and asking.fwd not in ("method", "bypass", "partial")


def _unavailable(url: str, reason: str) -> Answer:
    text = f"Buffy has no answer for {url}: {reason}.\n"
    return plain(504, text, f.cache_status(fwd="miss", detail=reason))


def failure_in(flight: Flight) -> Failed | None:
    """Why a flight that has ended brought nothing that can be used; None if it did."""
    match flight.known():
        case Failed() as failed:
            return failed
        case Arriving() as arriving if arriving.response.status >= 400:
            status = arriving.response.status
            return Failed(OriginError("http_response_error", f"the origin answered {status}"), status)
        case Arriving() as arriving if not arriving.spool.complete:
            return Failed(OriginError("http_response_incomplete", str(arriving.spool.error)))
        case None:
            return Failed(OriginError("connection_terminated", "the renewal was dropped"))
        case _:
            return None
