"""Fetching from the origin itself, where no Buffy server can be reached. Nothing is cached."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing, suppress
from typing import BinaryIO

import requests

from buffy_client.coding import decoded
from buffy_client.errors import BuffyDownloadError
from buffy_client.filenames import guess
from buffy_client.models import RequestIn
from buffy_client.progress import Bar
from buffy_client.retry import Deadline, Patience
from buffy_client.transfer import Restart, Transfer
from buffy_client.wording import shown

TIMEOUT_S = (10, 60)
RESTARTS = 5
CHUNK = 1 << 16


class Direct:
    """Downloads one request with resume and retry. `attempts` counts failures without any progress."""

    def __init__(self, wanted: RequestIn, attempts: int, first_wait_s: float) -> None:
        self._wanted, self._attempts, self._first_wait = wanted, attempts, first_wait_s
        self._what = f"the direct download of {shown(wanted.url)}"
        self._session = requests.Session()
        self._head: Mapping[str, str] = {}

    def close(self) -> None:
        self._session.close()

    def filename(self) -> str | None:
        """From the answer's headers where there was one, else from those of an answer that is not read."""
        if not self._head:
            with suppress(requests.exceptions.RequestException), closing(self._open({})) as answer:
                self._head = answer.headers if answer.ok else {}
        return guess(self._head, self._wanted.url)

    def fetch_into(self, file: BinaryIO, deadline: Deadline, bar: Bar) -> None:
        """Writes the content, from the file's start. Raises BuffyDownloadError, BuffyTimeoutError."""
        patience = Patience(self._what, self._attempts, self._first_wait, deadline)
        restarts = Patience(self._what, RESTARTS, self._first_wait, deadline)
        while True:
            file.seek(0)
            file.truncate()
            try:
                return self._fetch_once(file, Transfer(self._what, self._open, patience), bar)
            except Restart as error:
                restarts.failed(f"{error} at byte {error.at}")

    def _fetch_once(self, file: BinaryIO, transfer: Transfer, bar: Bar) -> None:
        for chunk in decoded(transfer, self._what, CHUNK):
            file.write(chunk)
            bar.show(transfer.position, transfer.total)
        self._head = transfer.head

    def _open(self, condition: Mapping[str, str]) -> requests.Response:
        wanted = self._wanted
        headers = {"Accept-Encoding": "identity", **condition, **wanted.http_header_fields}
        body = dict(wanted.http_request_body or {}) or None
        form = "x-www-form-urlencoded" in _content_type(headers)
        try:
            return self._session.request(
                wanted.http_method,
                wanted.url,
                params=dict(wanted.http_query_params),
                data=body if form else None,
                json=None if form else body,
                headers=headers,
                stream=True,
                timeout=TIMEOUT_S,
            )
        except ValueError as error:  # no URL, no header field: trying again would not help
            raise BuffyDownloadError(f"{self._what} cannot be asked for: {error}") from error


def _content_type(headers: Mapping[str, str]) -> str:
    return next((value.lower() for name, value in headers.items() if name.lower() == "content-type"), "")
