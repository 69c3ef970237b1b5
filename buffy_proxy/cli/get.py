"""`buffy get`: the stored bytes of a URL, or else those that the running server fetches and stores."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, cast
from urllib.parse import quote

import typer

from buffy_proxy.cli import talk

if TYPE_CHECKING:
    from requests import Session

    from buffy_proxy.config import Config
    from buffy_proxy.core.model import Version
    from buffy_proxy.presence import Presence
    from buffy_proxy.store import Store

CHUNK = 1 << 20


def register(app: typer.Typer) -> None:
    app.command("get")(get)


def get(
    url: Annotated[str, typer.Argument(help="A URL, or the id of a resource.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to; else stdout.", show_default=False),
    ] = None,
    version_name: Annotated[
        str | None,
        typer.Option(
            "--version", "--version-name", metavar="NAME", help="Which version.", show_default=False
        ),
    ] = None,
    tag: Annotated[
        str | None,
        typer.Option("--tag", metavar="TAG", help="The version with that tag.", show_default=False),
    ] = None,
    group: Annotated[str | None, talk.GROUP] = None,
    data_dir: Annotated[Path | None, talk.DATA_DIR] = None,
    config: Annotated[Path | None, talk.CONFIG] = None,
) -> None:
    """Write the bytes of a URL to stdout or a file.

    They are written as they are stored, fresh or not; a Content-Encoding is not undone. What is not stored
    is fetched through the running server.
    """
    from buffy_proxy.cli.library import opened
    from buffy_proxy.config import load
    from buffy_proxy.errors import ConfigError, NotFound

    if version_name and tag:
        raise ConfigError("--version and --tag exclude each other")
    try:
        with opened(data_dir, config) as library:
            stored = library.one(url, group)
            _copy_stored(library.store, stored.version(library.now, name=version_name, tag=tag), output)
    except NotFound as missing:
        if version_name or tag:
            raise
        _fetch(load(config, data_dir=data_dir), url, group, output, missing)


def _copy_stored(store: Store, version: Version, output: Path | None) -> None:
    body = store.open_body(version.body)
    try:
        chunks = (body.read_at(offset, CHUNK) for offset in range(0, body.size, CHUNK))
        _write(chunks, body.size, output)
    finally:
        body.close()


def _fetch(config: Config, url: str, group: str | None, output: Path | None, missing: Exception) -> None:
    """Through the running server's proxy. Raises NotFound where none runs, or it cannot get the URL."""
    from buffy_proxy.cli.library import url_argument
    from buffy_proxy.errors import NotFound
    from buffy_proxy.presence import find

    presence = find(config.data_dir)
    if presence is None:
        raise NotFound(f"{missing}; no server runs that could fetch it") from missing
    import requests
    import urllib3

    try:
        with _session(config, presence, group) as session:
            _download(session, url_argument(url), config.timeouts.first_byte_s + 10, output)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise NotFound(f"{url}: the server could not get it: {error}") from error


def _download(session: Session, url: str, timeout_s: float, output: Path | None) -> None:
    from buffy_proxy.errors import NotFound

    with session.get(url, stream=True, timeout=(10, timeout_s)) as answer:
        if answer.status_code >= 400:
            own = "Cache-Status" in answer.headers and answer.headers.get("Content-Type", "").startswith(
                "text/plain"
            )
            reason = f": {answer.text.strip()[:300]}" if own else ""
            raise NotFound(f"{url}: {answer.status_code} {answer.reason}{reason}")
        length = answer.headers.get("Content-Length", "")
        chunks = answer.raw.stream(CHUNK, decode_content=False)
        _write(chunks, int(length) if length.isdigit() else None, output)


@contextmanager
def _session(config: Config, presence: Presence, group: str | None) -> Iterator[Session]:
    """A session that talks to nothing but the server's proxy, and trusts its CA besides the usual ones."""
    import requests

    from buffy_proxy.trust import gather, system_paths

    proxy = _proxy_url(config, presence, group)
    with requests.Session() as session, tempfile.NamedTemporaryFile(suffix=".pem") as bundle:
        bundle.write(gather([*system_paths(), presence.ca_file]).pem)
        bundle.flush()
        session.trust_env = False
        session.verify = bundle.name
        session.proxies = {"http": proxy, "https": proxy}
        session.headers["Accept-Encoding"] = "identity"
        yield session


def _proxy_url(config: Config, presence: Presence, group: str | None) -> str:
    from buffy_proxy.core.model import DEFAULT_GROUP
    from buffy_proxy.errors import ConfigError
    from buffy_proxy.literals import address_text
    from buffy_proxy.presence import reachable
    from buffy_proxy.selectors import username

    try:
        selectors = username(group or DEFAULT_GROUP)
    except ValueError as error:
        raise ConfigError(f"--group: {error}") from error
    names = [config.credentials.user] if config.credentials else []
    user = quote("+".join([*names, *([selectors] if selectors else [])]), safe="")
    password = f":{quote(config.credentials.password, safe='')}" if config.credentials else ""
    return f"http://{user}{password}{'@' if user else ''}{address_text(reachable(presence.proxy))}"


def _write(chunks: Iterable[bytes], total: int | None, output: Path | None) -> None:
    """To a file, which appears when it is complete, or to stdout; with a progress bar where one waits."""
    if output is None or str(output) == "-":
        for chunk in _with_progress(chunks, total, visible=not sys.stdout.isatty()):
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        return
    with _appearing(output) as file:
        for chunk in _with_progress(chunks, total, visible=True):
            file.write(chunk)
    talk.say(f"{output}: {talk.size_text(output.stat().st_size)}")


@contextmanager
def _appearing(path: Path) -> Iterator[BinaryIO]:
    """A file that gets its name only once it is whole. A pipe or a device is written to as it is."""
    from buffy_proxy.errors import BuffyError

    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name[:100]}-", delete=False
        ) as file:
            try:
                yield cast(BinaryIO, file)
                file.flush()
                _usual_mode(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise BuffyError(f"{path}: cannot be written: {error.strerror or error}") from error


def _usual_mode(fd: int) -> None:
    """Temporary files are private; this gives the mode that an ordinary new file would have."""
    mask = os.umask(0)
    os.umask(mask)
    os.fchmod(fd, 0o666 & ~mask)


def _with_progress(chunks: Iterable[bytes], total: int | None, *, visible: bool) -> Iterator[bytes]:
    if not visible or not sys.stderr.isatty():
        yield from chunks
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        for chunk in chunks:
            yield chunk
            progress.advance(task, len(chunk))
