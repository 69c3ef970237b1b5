"""`buffy doctor`: does this machine's own set-up work with Buffy, shown by using it.

`machine` looks at Python, disk, ports, data directory and CA. `tools` really runs each installed tool through
a private server, against an origin on loopback (`origin`, `goods`) that no tool knows or trusts by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `detail` says what was seen; `fix`, only where it failed, what to do."""

    name: str
    state: State
    detail: str
    fix: str = ""
