"""What the kit's origin receives and sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it arrived: `target` is path and query, `fields` come in wire order, `body` is whole."""

    method: str
    target: str
    fields: tuple[tuple[str, str], ...]
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    def get(self, name: str) -> str | None:
        """The value of the first field of that name, in any spelling."""
        return next((value for key, value in self.fields if key.lower() == name.lower()), None)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response. `truncated`: half of the body, then the end of the connection."""

    status: int
    fields: Mapping[str, str]
    body: bytes
    truncated: bool = False
