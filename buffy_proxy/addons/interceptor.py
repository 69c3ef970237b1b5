"""Who may use the proxy, what goes to the cache, and the edits to what mitmproxy forwards by itself."""

from __future__ import annotations

import logging

from mitmproxy import connection, http
from mitmproxy.proxy import server_hooks

from buffy_proxy.addons.exchange import Exchange
from buffy_proxy.answer import Answer, last_recipient, passed_fields, plain
from buffy_proxy.cache import Cache
from buffy_proxy.config import Config, policy_for
from buffy_proxy.core import fields as f
from buffy_proxy.core import rules
from buffy_proxy.core.blocks import field_block
from buffy_proxy.core.head import RequestHead, request_objection
from buffy_proxy.core.model import Fields, Request, Response, Served
from buffy_proxy.errors import StoreError
from buffy_proxy.hot import BYTES_MAX, HEAD_MAX, BlockEntry, Entry, HotAnswers, entry_of
from buffy_proxy.ledger import Ledger
from buffy_proxy.literals import address_text
from buffy_proxy.logs import AccessLog
from buffy_proxy.lookup import Looked
from buffy_proxy.posted import Recording
from buffy_proxy.selectors import Selectors, parse_proxy_authorization

log = logging.getLogger("buffy.proxy")

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class Interceptor:
    """The addon. One instance a process; `sessions` holds what a CONNECT said for the requests inside it."""

    def __init__(
        self, cache: Cache, ledger: Ledger, config: Config, own_addresses: frozenset[tuple[str, int]]
    ) -> None:
        self.cache = cache
        self.ledger = ledger
        self.config = config
        self._own = own_addresses
        self._events = config.plugins.events
        self._sessions: dict[str, Selectors] = {}
        self.hot = HotAnswers(BYTES_MAX // config.workers)
        self._access = AccessLog()

    # -- mitmproxy hooks ----------------------------------------------------------------------------------
    def http_connect(self, flow: http.HTTPFlow) -> None:
        refusal = self._identify(flow)
        if refusal is None and self.config.reverse:
            refusal = _refuse(405, "this is a reverse proxy; it opens no tunnels")
        if refusal is not None:
            flow.response = _to_mitmproxy(refusal)
        else:
            self._sessions[flow.client_conn.id] = flow.metadata["buffy.session"]

    def client_disconnected(self, client: connection.Client) -> None:
        self._sessions.pop(client.id, None)

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Runs before any body is read: refuses, or says whether the body is needed for the key."""
        if flow.error is not None:
            return
        flow.request.stream = True
        if (refusal := self._identify(flow) or _malformed(flow.request)) is not None:
            flow.metadata["buffy.refusal"] = refusal
            return
        flow.request.stream = not self._body_is_part_of_key(flow)

    async def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Only for what mitmproxy forwards itself: the cache's answers never come through here."""
        response = flow.response
        if response is None:
            return
        response.data.reason = f.printable(response.data.reason)
        received = tuple((name, f.printable(value)) for name, value in response.headers.fields)
        head = Response(response.status_code, response.data.reason, f.framed(response.status_code, received))
        recording: Recording | None = None
        if flow.request.method not in SAFE:
            request = self._request(flow, b"")
            await self.cache.changes.invalidate(request, head)
            recording = self.cache.changes.record_posted(request, head, flow.request.timestamp_start)
        flow.metadata["buffy.recording"] = recording
        status = f.cache_status(
            fwd="bypass" if flow.request.method in SAFE else "method", fwd_status=head.status
        )
        if head.status != 101:
            # An HTTP/1.0 client knows no chunks; for it the end of the connection is the end of the body.
            framing = () if flow.request.http_version == "HTTP/1.0" else (b"transfer-encoding", b"trailer")
            kept = tuple(pair for pair in head.fields if pair[0].lower() in framing)
            if not response.is_http2:
                response.http_version = "HTTP/1.1"  # our own, whatever the origin speaks (RFC 9110 §2.5)
            closing = ((b"Connection", b"close"),) if flow.metadata.get("buffy.close") else ()
            response.headers = http.Headers([*passed_fields(head, status), *kept, *closing])
        flow.metadata["buffy.status"] = status
        flow.metadata["buffy.bytes"] = 0

        def count(chunk: bytes) -> bytes:
            flow.metadata["buffy.bytes"] += len(chunk)
            if recording is not None:
                recording.feed(chunk)
            return chunk

        response.stream = count

    async def response(self, flow: http.HTTPFlow) -> None:
        if (recording := flow.metadata.pop("buffy.recording", None)) is not None:
            await recording.commit()
        self._note_forwarded(flow)

    def error(self, flow: http.HTTPFlow) -> None:
        if (recording := flow.metadata.pop("buffy.recording", None)) is not None:
            recording.abort()
        if flow.error is not None:
            log.info("%s %s: %s", flow.request.method, self._shown(flow), flow.error.msg)
        self._note_forwarded(flow)

    def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        """The last gate before mitmproxy opens a connection of its own (tunnels, uploads, upgrades)."""
        address = data.server.address
        if self._offline(self._session(data.client)):
            data.server.error = "Buffy is offline for this client"
        elif address is not None and (address[0], address[1]) in self._own:
            data.server.error = "the destination is this proxy itself"

    def retarget(self, request: http.Request) -> None:
        """A reverse proxy has one origin, whatever authority the client names (RFC 9110 §7.4 lets it).
        CONNECT is left alone, and refused later."""
        if self.config.reverse and request.method != "CONNECT":
            scheme, host, port = f.origin_of(self.config.reverse)
            data = request.data
            data.scheme, data.host, data.port = scheme.encode(), host.strip("[]"), port
            if request.is_http2:
                request.authority = f.authority_of(f"{self.config.reverse}/")

    # -- for the layers -----------------------------------------------------------------------------------
    def is_upgrade(self, flow: http.HTTPFlow) -> bool:
        return "upgrade" in flow.request.headers and b"upgrade" in f.connection_options(
            tuple(flow.request.headers.fields)
        )

    def exchange(self, flow: http.HTTPFlow) -> Exchange:
        """Raises ValueError for a target that is no usable URL."""
        return Exchange(self.cache, self._request(flow, flow.request.raw_content or b""))

    def quick_answer(self, client: connection.Client, head: RequestHead, url: str) -> bytes | None:
        """The bytes of a hit that needs no waiting, or None; counted and logged as any other."""
        value = f.first(head.fields, b"proxy-authorization")
        session = self._sessions.get(client.id)
        if session is None or value is not None:
            try:
                session = parse_proxy_authorization(value)
            except ValueError:
                return None
            if not session.allowed_by(self.config.credentials):
                return None
        answer = self.answer_now(self.request_of(session, head, url), session)
        return answer if isinstance(answer, bytes) else None

    def request_of(self, session: Selectors, head: RequestHead, url: str) -> Request:
        """What a simple request asks the cache."""
        return self.asked(session, head.method, url, head.fields)

    def say_again(self, entry: Entry, now: float) -> bytes | None:
        """The bytes of a hit that was answered before; None where something changed since."""
        if not entry.made_at <= now < entry.fresh_until:
            return None
        try:
            stamp, content = self.cache.store.peek(entry.resource, entry.digest)
        except StoreError:
            return None
        if stamp != entry.stamp or (content is None) is not (entry.digest is None):
            return None
        self.ledger.note_hit(entry.size, entry.session.run, entry.resource_id)
        if self._access.wanted:
            status = entry.cache_status(now)
            self._access.line(f"{entry.method} {entry.url} {entry.status} {entry.size} {status}")
        head = entry.head(now)
        return head if content is None else head + content

    def answer_and_remember(self, request: Request, session: Selectors, key: bytes) -> bytes | Looked | None:
        """As `answer_now`; what may be said again is remembered under the key."""
        answer = self.cache.open_now(request)
        if not isinstance(answer, Answer):
            return answer
        self._remember(answer, request, session, key, Entry)
        return self._said(answer, request, session)

    def _remember(
        self, answer: Answer, request: Request, session: Selectors, key: bytes, kind: type[Entry]
    ) -> None:
        if answer.stamp is not None and len(key) <= HEAD_MAX and not self._events.wanted("served"):
            shown = rules.redact_url(request.url, self.cache.store.secret)
            entry = entry_of(request, answer, self.cache.now(), session, shown, kind)
            if entry is not None:
                self.hot.put(key, entry)

    def asked(self, session: Selectors, method: str, url: str, fields: Fields) -> Request:
        """What a request without a body asks the cache."""
        return Request(method, url, fields, b"", session.group, self._offline(session))

    def answer_block(
        self, request: Request, session: Selectors, key: bytes, room: int
    ) -> tuple[bytes, bytes] | None:
        """As `answer_and_remember` for HTTP/2: field block and content. None also where the content is longer
        than `room`."""
        answer = self.cache.open_now(request)
        if not isinstance(answer, Answer) or len(answer.content or b"") > room:
            return None
        self._remember(answer, request, session, key, BlockEntry)
        content = answer.content or b""
        self._note(answer, len(content), session, request.method, request.url)
        return field_block(answer.status, answer.fields), content

    def answer_now(self, request: Request, session: Selectors) -> bytes | Looked | None:
        """The bytes of a hit that needs no waiting; counted and logged as any other. Else what `Cache.open`
        takes."""
        answer = self.cache.open_now(request)
        return self._said(answer, request, session) if isinstance(answer, Answer) else answer

    def _said(self, answer: Answer, request: Request, session: Selectors) -> bytes:
        content = answer.content or b""
        self._note(answer, len(content), session, request.method, request.url)
        return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (
            answer.status,
            answer.reason,
            f.serialise_block(answer.fields),
            content,
        )

    def prepare_forwarding(self, flow: http.HTTPFlow) -> None:
        """Edits a request that mitmproxy forwards itself. Framing fields stay: mitmproxy frames by them."""
        try:
            request = self._request(flow, b"")
        except ValueError:
            return
        original = tuple(flow.request.headers.fields)
        flow.metadata["buffy.close"] = b"close" in f.connection_options(original)
        fields = list(rules.forward_fields(request, drop_conditionals=False))
        present = {name.lower() for name, _ in fields}
        framing = {b"transfer-encoding", b"trailer"}
        if self.is_upgrade(flow):
            framing |= {b"upgrade"}
            fields.append((b"Connection", b"Upgrade"))
        elif (te := flow.request.headers.get("te", "")) and "trailers" in te.lower():
            fields.append((b"te", b"trailers"))
        fields += [
            (name, value)
            for name, value in original
            if name.lower() in framing and name.lower() not in present
        ]
        if flow.request.is_http2:
            fields = [(name.lower(), value) for name, value in fields if name.lower() != b"host"]
        edited = self.config.plugins.origin_fields(request.method, request.url, tuple(fields))
        flow.request.headers = http.Headers(edited)

    def finished(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """One log line and one count for an answer of the cache."""
        answer = exchange.answer
        if answer is None:
            return
        session: Selectors = flow.metadata["buffy.session"]
        # A client may hang up as soon as it has the last byte, before we look for more.
        whole = answer.size is not None and exchange.sent >= answer.size
        early = (exchange.failure is not None or exchange.abandoned) and not whole
        self._note(answer, exchange.sent, session, flow.request.method, exchange.request.url, early=early)

    def note(self, answer: Answer, sent: int, session: Selectors, request: Request, *, early: bool) -> None:
        """One log line and one count for an answer of the front."""
        self._note(answer, sent, session, request.method, request.url, early=early)

    def adopt(self, client: connection.Client, session: Selectors) -> None:
        """A connection whose CONNECT was answered elsewhere."""
        self._sessions[client.id] = session

    def session_of(self, client: connection.Client) -> Selectors | None:
        """What its CONNECT said, None without one."""
        return self._sessions.get(client.id)

    def _note(
        self,
        answer: Answer,
        sent: int,
        session: Selectors,
        method: str,
        url: str,
        *,
        early: bool = False,
    ) -> None:
        run, group = session.run, session.group
        self.ledger.note(answer, sent, run=run, resource_id=answer.resource_id)
        if self._events.wanted("served"):
            self._tell_served(answer, sent, method, url, group)
        if self._access.wanted:
            shown = rules.redact_url(url, self.cache.store.secret)
            ended = " (ended early)" if early else ""
            status = answer.cache_status.decode()
            self._access.line(f"{method} {shown} {answer.status} {sent} {status}{ended}")

    def _tell_served(self, answer: Answer, sent: int, method: str, url: str, group: str) -> None:
        shown = rules.redact_url(url, self.cache.store.secret)
        status = answer.cache_status.decode()
        served = Served(method, shown, group, answer.status, status, sent, answer.resource_id)
        self._events.post("served", event=served)

    def refusal(self, flow: http.HTTPFlow, *, forwarding: bool) -> Answer | None:
        """The answer to a request that goes nowhere. `forwarding`: mitmproxy would connect for it."""
        refusal: Answer | None = flow.metadata.get("buffy.refusal")
        if refusal is None and forwarding and (own := self._own_answer(flow)) is not None:
            return own
        if refusal is None and forwarding and self._offline(flow.metadata.get("buffy.session")):
            text = "Buffy is offline for this client, and this request cannot be answered from the store.\n"
            return plain(504, text, f.cache_status(fwd="bypass", detail="offline"))
        return refusal

    def _own_answer(self, flow: http.HTTPFlow) -> Answer | None:
        """To a request with a body that goes no further; the cache does so for those without."""
        try:
            request = self._request(flow, b"")
        except ValueError:
            return None
        own = rules.answers_itself(request)
        return None if own is None else last_recipient(request, own)

    def bad_request(self, message: str) -> Answer:
        return _refuse(400, message)

    # -- inside -------------------------------------------------------------------------------------------
    def _identify(self, flow: http.HTTPFlow) -> Answer | None:
        """Notes the session of a request; an answer when it is refused."""
        value = flow.request.headers.get("proxy-authorization")
        try:
            selectors = (
                parse_proxy_authorization(value.encode("latin-1", "replace"))
                if value is not None
                else self._session(flow.client_conn)
            )
        except ValueError as error:
            return _refuse(407, str(error))
        authenticated = value is None and flow.client_conn.id in self._sessions
        if not authenticated and not selectors.allowed_by(self.config.credentials):
            return _refuse(407, "this Buffy wants a user name and a password in the proxy URL")
        flow.metadata["buffy.session"] = selectors
        return None

    def _offline(self, session: Selectors | None) -> bool:
        return self.config.offline or (session is not None and session.offline)

    def _session(self, client: connection.Client) -> Selectors:
        return self._sessions.get(client.id) or Selectors()

    def _request(self, flow: http.HTTPFlow, body: bytes) -> Request:
        session: Selectors = flow.metadata.get("buffy.session") or Selectors()
        return Request(
            method=flow.request.method,
            url=_target_uri(flow.request),
            fields=tuple(flow.request.headers.fields),
            body=body,
            group=session.group,
            offline=self._offline(session),
        )

    def _body_is_part_of_key(self, flow: http.HTTPFlow) -> bool:
        method = flow.request.method
        if method in SAFE:
            return False
        length = f.delta_seconds(flow.request.headers.get("content-length"))
        if (
            length is None
            or length > self.config.max_request_body
            or "transfer-encoding" in flow.request.headers
        ):
            return False
        try:
            return method in policy_for(self.config, method, _target_uri(flow.request)).methods
        except ValueError:
            return False

    def _note_forwarded(self, flow: http.HTTPFlow) -> None:
        if "buffy.status" not in flow.metadata or flow.response is None:
            return
        session: Selectors = flow.metadata.get("buffy.session") or Selectors()
        sent, status = flow.metadata["buffy.bytes"], flow.metadata.pop("buffy.status")
        answer = Answer(flow.response.status_code, b"", (), cache_status=status)
        self.ledger.note(answer, sent, run=session.run)
        if self._events.wanted("served"):
            shown = self._shown(flow)
            self._tell_served(answer, sent, flow.request.method, shown, session.group)
        if self._access.wanted:
            code, said = flow.response.status_code, status.decode()
            self._access.line(f"{flow.request.method} {self._shown(flow)} {code} {sent} {said}")

    def _shown(self, flow: http.HTTPFlow) -> str:
        try:
            return rules.redact_url(_target_uri(flow.request), self.cache.store.secret)
        except ValueError:
            return "(unusable target)"


def _target_uri(request: http.Request) -> str:
    """The absolute target URI; bytes beyond ASCII are percent-encoded, as browsers do. Raises ValueError."""
    path = "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in request.data.path)
    slash = "" if path.startswith("/") else "/"
    return f.normalise_url(f"{request.scheme}://{address_text((request.host, request.port))}{slash}{path}")


def _malformed(request: http.Request) -> Answer | None:
    """A refusal for what must not travel on in HTTP/1, in whatever version it came."""
    objection = request_objection(request.data.method, request.headers.fields)
    if objection is not None:
        return _refuse(objection.status, objection.text)
    try:
        _target_uri(request)
    except ValueError as error:
        return _refuse(400, str(error))
    return None


def _refuse(status: int, text: str) -> Answer:
    extra = ((b"Proxy-Authenticate", b'Basic realm="Buffy"'),) if status == 407 else ()
    return plain(status, f"{text}\n", b"buffy; fwd=bypass", ((b"Connection", b"close"), *extra))


def _to_mitmproxy(answer: Answer) -> http.Response:
    return http.Response.make(answer.status, answer.content or b"", http.Headers(list(answer.fields)))
