"""What one client may see by its credentials is never given to another (CLIENT-SETUP.md, Secrets)."""

from __future__ import annotations

import pytest

from tests.support import answers
from tests.support.buffy import Buffy
from tests.support.origin import Origin

CONFIG = """
[[rule]]
match = "{http}/kept/**"
strategy = "never"

[[rule]]
match = "{http}/shared/**"
strategy = "never"
shared = true
"""
SECRET = "correct-horse-battery-staple"


async def personal(request, peer):  # type: ignore[no-untyped-def]
    """Says who asked, and lets anybody store it."""
    who = "|".join((request.get("authorization") or "", request.get("cookie") or "", request.query))
    await answers.fixed(who.encode(), {"Cache-Control": "public, max-age=3600"})(request, peer)


@pytest.mark.parametrize("base", ["/http", "/kept"])
@pytest.mark.parametrize("name", ["Authorization", "Cookie"])
def test_each_credential_has_a_partition_of_its_own(
    server: Buffy, origin: Origin, base: str, name: str
) -> None:
    path = f"{base}/{name}"
    url = origin.on(path, personal)
    for value in ("alpha=1", "beta=2", None):
        fields = [(name, value)] if value else []
        expected = (value or "").encode()
        assert server.get(url, fields).body.strip(b"|") == expected
        again = server.get(url, fields)
        assert again.cache.hit and again.body.strip(b"|") == expected
    assert origin.hits(path) == 3


@pytest.mark.parametrize("parameter", ["X-Amz-Signature", "sig", "token", "access_token"])
def test_signatures_are_part_of_the_key(server: Buffy, origin: Origin, parameter: str) -> None:
    path = f"/kept/{parameter}"
    url = origin.on(path, personal)
    for value in ("one", "two"):
        assert server.get(f"{url}?a=1&{parameter}={value}").body.endswith(value.encode())
    assert origin.hits(path) == 2


def test_authorization_alone_is_not_stored(server: Buffy, origin: Origin, path: str) -> None:
    """RFC 9111 §3.5: a shared cache wants the origin's leave."""
    url = origin.on(path, answers.fixed(b"x", answers.FRESH))
    fields = [("Authorization", "Basic abc")]
    assert server.get(url, fields).body == server.get(url, fields).body == b"x"
    assert origin.hits(path) == 2


def test_set_cookie_is_not_replayed_to_others(server: Buffy, origin: Origin) -> None:
    url = origin.on("/kept/cookie-setter", answers.fixed(b"x", {"Set-Cookie": "session=1", "X-Kept": "yes"}))
    first, second = server.get(url), server.get(url)
    assert first.get("set-cookie") == "session=1"
    assert second.cache.hit and second.get("set-cookie") is None and second.get("x-kept") == "yes"


def test_only_an_explicit_rule_merges_partitions(server: Buffy, origin: Origin) -> None:
    url = origin.on("/shared/x", answers.fixed(b"x"))
    assert not server.get(url, [("Authorization", "a")]).cache.hit
    assert server.get(url, [("Authorization", "b")]).cache.hit
    assert server.get(url).cache.hit


def test_no_secret_is_written_anywhere(server: Buffy, origin: Origin) -> None:
    url = origin.on("/kept/secret", answers.fixed(b"x"))
    fields = [("Authorization", f"Bearer {SECRET}"), ("Cookie", f"c={SECRET}")]
    server.get(f"{url}?token={SECRET}", fields)
    server.get(f"{url}?token={SECRET}", fields, user="group=g")
    assert server.get(f"{url}?token={SECRET}", fields).cache.hit
    for arguments in (("ls", "--json"), ("ls",), ("show", f"{url}?token={SECRET}", "--json")):
        assert SECRET.encode() not in server.cli(*arguments).stdout
    assert SECRET not in server.log()
    files = [file for file in server.data_dir.rglob("*") if file.is_file()]
    assert files and not [file for file in files if SECRET.encode() in file.read_bytes()]
