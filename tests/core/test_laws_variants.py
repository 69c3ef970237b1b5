"""Vary never crosses variants (RFC 9111 §4.1), over spellings of Vary and of the nominated fields.

What two requests have in common is said here anew, in other words than in `core.versions`.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, event, example, given
from hypothesis import strategies as st

from buffy_proxy.core.model import Fields, Request, Version
from buffy_proxy.core.rules import Forward, Serve, Validate, decide
from buffy_proxy.core.versions import matches, same_variant
from tests.core.make import HTTP, URL, T, fields, version
from tests.core.wild import line

VALUES = st.sampled_from(["1", "2", "1,2", "1, 2", "1 ,\t2", " 1 ", "", '"1, 2"', '"1,2"', "1, 1"])
ASKED: st.SearchStrategy[Fields] = st.lists(
    st.one_of(*(line(name, VALUES) for name in ("a", "b", "accept-encoding"))), max_size=4
).map(tuple)
VARY = st.lists(st.sampled_from(["a", "A", "b", "Accept-Encoding", "", " b ", "c", "*"]), max_size=3)
VARY_LINES: st.SearchStrategy[Fields] = st.lists(
    st.sampled_from([b"Vary", b"VARY"]).flatmap(lambda name: line(name.decode(), VARY.map(",".join))),
    max_size=2,
).map(tuple)
VERSIONS = st.builds(lambda vary, asked: replace(version(asked=asked), fields=vary), VARY_LINES, ASKED)


def nominated(vary: Fields) -> set[str]:
    listed = ",".join(value.decode() for _, value in vary)
    return {name.strip().lower() for name in listed.split(",")} - {""}


def meaning(asked: Fields, name: str) -> list[str] | None:
    """The members that all lines of a field have; within quotes every byte counts."""
    values = [value.decode() for n, value in asked if n.decode().lower() == name]
    if any('"' in value for value in values):
        return [", ".join(values)]
    return [member.strip() for member in ",".join(values).split(",")] if values else None


@given(st.lists(VERSIONS, max_size=5), ASKED)
def test_what_answers_was_asked_for_in_the_same_way(versions: list[Version], asked: Fields) -> None:
    decision = decide(Request("GET", URL, asked), versions, None, HTTP, T)
    match decision:
        case Serve(chosen) | Validate(chosen):
            event("answered")
            names = nominated(chosen.fields)
            assert "*" not in names
            for name in names:
                assert meaning(chosen.request_fields, name) == meaning(asked, name)
        case Forward():
            event("forwarded")
            assert decision.fwd == ("vary-miss" if versions else "uri-miss")


@given(VARY_LINES, ASKED)
def test_the_same_request_is_always_answered(vary: Fields, asked: Fields) -> None:
    """But by `Vary: *`, which answers none."""
    stored = replace(version(asked=asked), fields=vary)
    decision = decide(Request("GET", URL, asked), [stored], None, HTTP, T)
    assert isinstance(decision, Forward if "*" in nominated(vary) else Serve)


@given(VERSIONS, ASKED)
def test_fields_that_are_not_nominated_do_not_matter(stored: Version, asked: Fields) -> None:
    names = nominated(stored.fields)
    kept = tuple((n, v) for n, v in asked if n.decode().lower() in names)
    assert matches(stored, asked) == matches(stored, kept)


@given(VARY_LINES, ASKED, ASKED)
def test_variants_are_what_answers_the_same_requests(vary: Fields, one: Fields, other: Fields) -> None:
    """Two versions with the same Vary are one variant exactly where the one answers the other's request."""
    assume("*" not in nominated(vary))
    a, b = (replace(version(asked=asked), fields=vary) for asked in (one, other))
    assert same_variant(a, b) == matches(a, other) == matches(b, one)


ONE_FIELD: st.SearchStrategy[Fields] = st.lists(line("a", VALUES), max_size=2).map(tuple)


@given(ONE_FIELD, ONE_FIELD)
@example(fields('A: "1, 2"'), fields('a: "1,2"'))
def test_equal_meaning_is_all_that_counts(one: Fields, other: Fields) -> None:
    """White space around commas and the cut into lines do not make a variant, anything else does."""
    stored = replace(version(asked=one), fields=((b"Vary", b"A"),))
    assert matches(stored, other) == (meaning(one, "a") == meaning(other, "a"))
