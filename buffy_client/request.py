"""One request: ordering it, its content, its versions."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, overload

from buffy_client.choice import Wishes
from buffy_client.coding import decoded
from buffy_client.direct import Direct
from buffy_client.errors import BuffyDownloadError, BuffyUnreachableError, BuffyUsageError
from buffy_client.filenames import safe_name
from buffy_client.files import AnySink, is_special, write_into, write_path, write_sink
from buffy_client.models import RequestIn, Response
from buffy_client.order import Order
from buffy_client.progress import Bar, bar
from buffy_client.retry import Deadline, Patience
from buffy_client.strategies import RequestCacheConfiguration
from buffy_client.transfer import Restart
from buffy_client.wording import shown

if TYPE_CHECKING:
    from buffy_client.client import BuffyPyClient

log = logging.getLogger(__package__)
CHUNK = 65536
PAGE = 1000
TAG = re.compile(r"[A-Za-z0-9_-]{2,64}\Z")
AnyPath = str | PathLike[str]


def _alias(name: str) -> Any:
    """Another spelling of an attribute."""
    return property(lambda self: getattr(self, name), lambda self, value: setattr(self, name, value))


class Request:
    """What `BuffyPyClient.create_request()` gives.

    The attributes say which version is served, from the next call on: what is preferred gives way where it
    does not exist, what is forced is an error then. `prefer_…` are second names of the `prefere_…` ones.
    Every method that waits takes `timeout_sec` (seconds until the content must be ready on the server) and
    raises BuffyTimeoutError; the server goes on with the order then.
    """

    def __init__(self, wanted: RequestIn, client: BuffyPyClient) -> None:
        self._wanted, self._client, self._url = wanted, client, shown(wanted.url)
        self._order: Order | None = None
        self._direct: Direct | None = None
        self._unreachable: BuffyUnreachableError | None = None
        self.prefere_cached_instead_of_waiting = True
        self.prefere_pinned: bool | None = None
        self.prefere_version: str | None = None
        self.prefere_tag: str | None = None
        self.force_pinned: bool | None = None
        self.force_version: str | None = None
        self.force_tag: str | None = None

    prefer_cached = _alias("prefere_cached_instead_of_waiting")
    prefer_pinned = _alias("prefere_pinned")
    prefer_version = _alias("prefere_version")
    prefer_tag = _alias("prefere_tag")

    @property
    def _wishes(self) -> Wishes:
        return Wishes(**{item.name: getattr(self, item.name) for item in fields(Wishes)})

    # -- ordering --------------------------------------------------------------------------------------------
    def order(
        self,
        prefer_cached: bool = True,
        prefer_pinned: bool | None = None,
        prefer_version: str | None = None,
        prefer_tag: str | None = None,
        force_pinned: bool | None = None,
        force_version: str | None = None,
        force_tag: str | None = None,
    ) -> None:
        """Tells the server that the content is wanted, and returns without waiting for it.

        `prefer_cached`: a stored version that may answer now is taken; else the one being fetched is waited
        for. What is None leaves the attribute of that name as it is. Raises BuffyServerError.
        """
        self.prefer_cached = prefer_cached
        given = {"prefer_pinned": prefer_pinned, "prefer_version": prefer_version, "prefer_tag": prefer_tag}
        given |= {"force_pinned": force_pinned, "force_version": force_version, "force_tag": force_tag}
        for name, value in given.items():
            if value is not None:
                setattr(self, name, value)
        self._order = self._direct = self._unreachable = None
        try:
            self._order = Order(self._client.api, self._wanted, self._client.outage_sec)
        except BuffyUnreachableError as error:
            self._go_direct(error)

    def _go_direct(self, error: BuffyUnreachableError) -> Direct:
        """From now on the content comes from the origin itself, if that is allowed and can be right."""
        self._unreachable, client = error, self._client
        if not client.local_download_fallback:
            raise error
        if force := self._wishes.force:
            raise BuffyUnreachableError(f"{error}. A direct download cannot give what is forced ({force})")
        client.say_unreachable(error)
        self._order = None
        if self._direct is None:
            self._direct = Direct(self._wanted, client.download_attempts, client.first_retry_sec)
        return self._direct

    def _placed(self, what: str) -> Order:
        """The order; raises BuffyUsageError before order(), BuffyUnreachableError without a server."""
        if self._order is None:
            if self._unreachable is not None:
                raise BuffyUnreachableError(f"cannot {what}: {self._unreachable}") from self._unreachable
            raise BuffyUsageError(f"cannot {what} of {self._url}: call order() first")
        return self._order

    def _deadline(self, timeout_sec: float | None) -> Deadline:
        return Deadline(timeout_sec, self._url)

    # -- content ---------------------------------------------------------------------------------------------
    def download_response_content(
        self, chunk_size: int = CHUNK, *, timeout_sec: float | None = None, progress: bool = False
    ) -> Iterator[bytes]:
        """Yields the content, its Content-Encoding undone, as soon as it is ready.

        Length and digest are verified: whoever gets to the end has it whole. Raises BuffyCacheEmptyError,
        BuffyForcedVersionError, BuffyDownloadError, BuffyTimeoutError, BuffyServerError.
        """
        deadline, begun = self._deadline(timeout_sec), False
        with closing(bar(progress, self._url)) as display:
            if self._unreachable is None:
                try:
                    for chunk in self._from_server(chunk_size, deadline, display, progress):
                        begun = True
                        yield chunk
                    return
                except BuffyUnreachableError as error:
                    if begun:
                        raise
                    self._go_direct(error)
            with tempfile.TemporaryFile() as file:
                self._from_origin(file, deadline, display)
                file.seek(0)
                while chunk := file.read(chunk_size):
                    yield chunk

    @overload
    def download_response_content_to(
        self,
        target: AnyPath | None = None,
        dir: AnyPath | None = None,
        *,
        timeout_sec: float | None = None,
        progress: bool = False,
    ) -> Path: ...

    @overload
    def download_response_content_to(
        self, target: AnySink, dir: None = None, *, timeout_sec: float | None = None, progress: bool = False
    ) -> AnySink: ...

    def download_response_content_to(
        self,
        target: Any = None,
        dir: AnyPath | None = None,
        *,
        timeout_sec: float | None = None,
        progress: bool = False,
    ) -> Any:
        """Writes the content to a path, an open binary file, or under its own name into a directory.

        Gives the path (or the open file). A path gets its content whole or not at all: until then it is a
        hidden temporary file beside it. Raises as `download_response_content`, and OSError.
        """
        if (target is None) == (dir is None):
            raise BuffyUsageError("give either target (a path or an open file) or dir (a directory)")
        goal: Any = target if dir is None else dir
        if not isinstance(goal, (str, PathLike)):
            return write_sink(goal, self._chunks(timeout_sec, progress))
        path = Path(goal)
        if is_special(path):
            with path.open("wb") as file:
                write_sink(file, self._chunks(timeout_sec, progress))
            return path
        deadline = self._deadline(timeout_sec)

        def fill(file: BinaryIO) -> None:
            with closing(bar(progress, self._url)) as display:
                self._fill(file, deadline, display, progress)

        into = dir is not None or path.is_dir()
        return write_into(path, fill, self._final_name) if into else write_path(path, fill)

    def _chunks(self, timeout_sec: float | None, progress: bool) -> Iterator[bytes]:
        return self.download_response_content(timeout_sec=timeout_sec, progress=progress)

    def _final_name(self) -> str:
        return self.get_filename() or "download"

    def _fill(self, file: BinaryIO, deadline: Deadline, display: Bar, lively: bool) -> None:
        if self._unreachable is None:
            try:
                for chunk in self._from_server(CHUNK, deadline, display, lively):
                    file.write(chunk)
                return
            except BuffyUnreachableError as error:
                self._go_direct(error)
        self._from_origin(file, deadline, display)

    def _from_server(self, size: int, deadline: Deadline, display: Bar, lively: bool) -> Iterator[bytes]:
        order, client = self._placed("download the content"), self._client
        response = order.wait(self._wishes, deadline, display, lively)
        what = f"the content of {self._url}"
        patience = Patience(what, client.download_attempts, client.first_retry_sec, Deadline(None, what))
        transfer = order.transfer(response, patience)
        try:
            for chunk in decoded(transfer, what, size):
                display.show(transfer.position, transfer.total)
                yield chunk
        except Restart as error:
            raise BuffyDownloadError(f"{what}: {error}: fetch it again") from error
        except BuffyDownloadError as error:
            raise (order.down or error) from error

    def _from_origin(self, file: BinaryIO, deadline: Deadline, display: Bar) -> None:
        assert self._unreachable is not None
        self._go_direct(self._unreachable).fetch_into(file, deadline, display)

    def get_filename(
        self, fallback_filename: str | None = "download", *, timeout_sec: float | None = None
    ) -> str | None:
        """The content's own name, from Content-Disposition, the URL or the media type; never with a directory
        in it. Returns as soon as the origin's headers are known."""
        if self._direct is not None:
            return self._direct.filename() or fallback_filename
        order = self._placed("tell the file name")
        with closing(bar(False, "")) as hidden:
            found = order.wait_for_name(self._wishes, self._deadline(timeout_sec), hidden)
        return safe_name(found) or fallback_filename

    # -- versions --------------------------------------------------------------------------------------------
    def list_cached_response_versions(
        self, status: str | None = "ready", tag: str | None = None, skip: int = 0, limit: int | None = 10
    ) -> list[Response]:
        """The versions that the server has, newest first; None is no filter and no limit.

        Raises BuffyServerError.
        """
        order = self._placed("list the versions")
        ask = partial(self._client.api.versions, order.ticket, status=status, tag=tag)
        if limit is not None:
            return ask(skip=skip, limit=limit)
        found: list[Response] = []
        while page := ask(skip=skip + len(found), limit=PAGE):
            found += page
        return found

    list_cached_versions = list_cached_response_versions

    @property
    def response_version(self) -> str | None:
        """The name of the version that is or will be served; None before order() and for direct downloads."""
        if self._order is None:
            log.warning("%s has no version: it was not ordered from a server", self._url)
            return None
        return self._order.current(self._wishes).version

    @property
    def previous_version(self) -> str | None:
        """The version before that one, asked of the server; None if there is none."""
        return self._order.refreshed(self._wishes).previous_version if self._order else None

    @property
    def next_version(self) -> str | None:
        """The version after that one, asked of the server; None if there is none."""
        return self._order.refreshed(self._wishes).next_version if self._order else None

    def pin(
        self, value: bool = True, response_version: str | None = None, duration_sec: int | None = None
    ) -> str:
        """Protects a version and lets it answer, for `duration_sec` seconds or until it is unpinned.

        Without a name: the current version, once it is ready. Gives its name. Raises BuffyServerError.
        """
        order = self._placed("pin a version")
        name = response_version or self._ready(order)
        return self._client.api.pin(order.ticket, name, value, duration_sec).version

    def unpin(self, response_version: str | None = None) -> str:
        """Ends a pin; see `pin`."""
        return self.pin(value=False, response_version=response_version)

    def tag(self, tag: str, response_version: str | None = None, remove_tag: bool = False) -> str:
        """Names a version, 2–64 characters of A–Z, a–z, 0–9, _ and -; or takes that name off it.

        Without a version's name: the current version, once it is ready. Gives its name.
        """
        if not TAG.match(tag):
            raise BuffyUsageError(f"{tag!r} is no tag: it takes 2 to 64 letters, digits, _ and -")
        order = self._placed("tag a version")
        name = response_version or self._ready(order)
        return self._client.api.tag(order.ticket, name, tag, remove_tag).version

    def _ready(self, order: Order) -> str:
        with closing(bar(False, "")) as hidden:
            return order.wait(self._wishes, self._deadline(None), hidden).version

    # -- configuration ---------------------------------------------------------------------------------------
    @property
    def cache_configuration(self) -> RequestCacheConfiguration | None:
        """What the server has; before order() what will be sent. Setting it updates the server."""
        if self._order is not None:
            return self._order.ticket.cache_configuration
        return self._wanted.cache_configuration

    @cache_configuration.setter
    def cache_configuration(self, config: RequestCacheConfiguration | None) -> None:
        self._wanted = replace(self._wanted, cache_configuration=config)
        if self._order is not None:
            self._order.configure(config or RequestCacheConfiguration())
