"""What in a case may lead to a difference: the words in which `differences` explains them."""

from __future__ import annotations

import re
from collections.abc import Callable

from buffy_proxy.core.fields import get_all, http_date, names
from tests.core.make import T
from tests.core.oracle.cases import Case, text
from tests.core.oracle.ours import decisions

LENIENT = re.compile(r'=(?!(?:"[0-9]+"|[0-9]+)\s*(,|$))')
SHOUTED = re.compile(r"[A-Z]")


def _says(name: str) -> Callable[[str], bool]:
    pattern = re.compile(rf"(^|[,\s]){name}\s*(=|,|$)", re.IGNORECASE)
    return lambda control: pattern.search(control) is not None


def repeats(control: str) -> bool:
    said = [member.partition("=")[0].strip().lower() for member in control.split(",")]
    said = [name for name in said if name]
    return len(said) != len(set(said))


def odd_date(case: Case) -> bool:
    dates = [v for name in (b"date", b"expires", b"last-modified") for v in get_all(case.said, name)]
    return any(http_date(value, T) is None for value in dates)


def odd_age(case: Case) -> bool:
    value = text(case.said, "age")
    return not (re.fullmatch(r"[0-9]+", value) and int(value) <= 2**31)


def apparent_age(case: Case) -> float:
    date = http_date(text(case.said, "date").encode(), T)
    return 0.0 if date is None else T - date


def stale_by(case: Case) -> int:
    """Seconds since it is stale, by Buffy's own count; npm's is the same where `reuse` is compared."""
    made = decisions(case)
    return int(made["age"] - made["lifetime"])


def varies_in_space(case: Case) -> bool:
    spaced = text(case.asked, "accept"), text(case.presented, "accept")
    return spaced == ("a, b", "a,b") and "accept" in text(case.said, "vary").lower()


def only_in_304(case: Case) -> frozenset[str]:
    return frozenset(n.decode() for n in names(case.confirmation) - names(case.said))


def modified(case: Case) -> bool | None:
    """Whether both Last-Modified are equal; None where there are no two dates to compare."""
    dates = [http_date(text(f, "last-modified").encode(), T) for f in (case.said, case.confirmation)]
    return None if None in dates else dates[0] == dates[1]


def credentials_differ(case: Case) -> bool:
    return any(text(case.asked, n) != text(case.presented, n) for n in ("authorization", "cookie"))


no_store, must_understand, immutable = _says("no-store"), _says("must-understand"), _says("immutable")
must_revalidate, proxy_revalidate = _says("must-revalidate"), _says("proxy-revalidate")
max_age, max_stale, public = _says("max-age"), _says("max-stale"), _says("public")
stale_if_error, _s_maxage, _no_cache = _says("stale-if-error"), _says("s-maxage"), _says("no-cache")


def forbids_stale(control: str) -> bool:
    return any(says(control) for says in (must_revalidate, proxy_revalidate, _s_maxage, _no_cache))


def explicit(case: Case) -> bool:
    return max_age(case.control) or _s_maxage(case.control) or bool(get_all(case.said, b"expires"))


def empty(case: Case) -> bool:
    return re.search(r"=\s*(,|$)", case.control) is not None or get_all(case.said, b"expires") == [b""]
