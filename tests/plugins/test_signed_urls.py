"""Shapes of signed URLs as object stores make them (hosts, keys and signatures are made up)."""

from __future__ import annotations

from typing import Any

import pytest

from buffy_proxy.core import rules
from buffy_proxy.core.model import Request
from buffy_proxy.errors import ConfigError
from buffy_proxy.testing import Origin, RunningBuffy, make_policy
from tests.plugins.kit import loaded, plugin_file

HOST = "https://files.objects.example.net"
SECRET = b"s" * 32
S3_4 = (
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD"
    "&X-Amz-Credential=AKIAEXAMPLE%2F20261125%2Feu-central-1%2Fs3%2Faws4_request&X-Amz-Date=20261125T0600{n}Z"
    "&X-Amz-Expires=3600&X-Amz-Signature={n}c0ffee&X-Amz-SignedHeaders=host&x-id=GetObject"
)
GOOGLE_4 = (
    "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=robot%40example.iam%2F20261125%2Fauto%2Fstorage%2Fgoog4_request"
    "&X-Goog-Date=20261125T0600{n}Z&X-Goog-Expires=900&X-Goog-SignedHeaders=host&X-Goog-Signature={n}beef"
)
AZURE = (
    "sp=r&sv=2018-11-09&sr=b&spr=https&se=2026-11-25T07%3A4{n}%3A15Z&skoid=96c2&sktid=398a&skt=2026-11-25T06%3A47%3A11Z"
    "&ske=2026-11-25T07%3A47%3A15Z&sks=b&skv=2018-11-09&sig={n}Zm9v%3D&jwt=eyJ{n}"
)
SHAPES = {
    "S3 version 4": S3_4,
    "S3 version 4, temporary": S3_4 + "&X-Amz-Security-Token=FwoG{n}",
    "S3 version 2": "AWSAccessKeyId=AKIAEXAMPLE&Expires=179559940{n}&Signature={n}vjby%2BPd",
    "Google version 4": GOOGLE_4,
    "Google version 2": "GoogleAccessId=robot%40example.iam&Expires=179559940{n}&Signature={n}vjby",
    "Azure SAS": AZURE,
    "CloudFront, canned": "Expires=179559940{n}&Signature={n}nitfHR&Key-Pair-Id=K2JCJMDEHXQW5F",
    "CloudFront, custom": "Policy=eyJT{n}&Signature={n}nitfHR&Key-Pair-Id=K2JCJMDEHXQW5F",
    "Aliyun version 1": "OSSAccessKeyId=LTAIexample&Expires=179559940{n}&Signature={n}vjby",
    "Aliyun version 4": "x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-credential=LTAI%2F2026"
    "&x-oss-date=2026{n}&x-oss-expires=900&x-oss-signature={n}beef",
    "Tencent": "q-sign-algorithm=sha1&q-ak=AKIDexample&q-sign-time=1{n};2&q-key-time=1{n};2"
    "&q-header-list=host&q-url-param-list=&q-signature={n}beef",
    "Akamai": "hdnea=exp=179559940{n}~acl=/*~hmac={n}beef",
}  # fmt: skip
OTHERS = [
    "token={n}",
    "access_token={n}&page=1",
    "Signature={n}",  # no family is whole
    "sig={n}&sv=1",
    "X-Amz-Signature={n}&X-Amz-Date=2026",
    "page={n}",
]


def key(path: str, hosts: list[str] | None = None, *, authorization: bytes | None = None) -> Any:
    plugins = loaded("signed_urls", hosts=["*.objects.example.net"] if hosts is None else hosts)
    fields = () if authorization is None else ((b"Authorization", authorization),)
    made = plugins.cache_key(Request("GET", HOST + path, fields), make_policy(), SECRET)
    assert plugins.failures.total == 0
    return made


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_links_with_different_signatures_are_one(shape: str) -> None:
    one, two = (key(f"/a/tool-1.0.tgz?{shape.replace('{n}', n)}") for n in "12")
    assert one == two and one.url == f"{HOST}/a/tool-1.0.tgz" and one.partition == ""


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_what_changes_the_answer_stays(shape: str) -> None:
    query = shape.replace("{n}", "1")
    extra = "response-content-disposition=attachment%3B%20filename%3Dtool.tgz&versionId=3"
    whole = key(f"/a?{query}&{extra}")
    assert whole.url == f"{HOST}/a?{extra}"
    assert whole.id != key(f"/a?{query}&{extra.replace('versionId=3', 'versionId=4')}").id
    assert whole.id != key(f"/b?{query}&{extra}").id


@pytest.mark.parametrize("query", OTHERS)
def test_what_is_no_whole_signature_stays(query: str) -> None:
    one, two = (key(f"/a?{query.replace('{n}', n)}") for n in "12")
    assert one.id != two.id
    plain = rules.cache_key(Request("GET", f"{HOST}/a?{query.replace('{n}', '1')}"), make_policy(), SECRET)
    assert one == plain


def test_other_hosts_and_other_credentials_stay_apart() -> None:
    one, two = (key("/a?" + S3_4.replace("{n}", n), hosts=["elsewhere.example.net"]) for n in "12")
    assert one.id != two.id
    mine, yours = (
        key("/a?" + S3_4.replace("{n}", "1"), authorization=value) for value in (b"Bearer a", b"Bearer b")
    )
    assert mine.id != yours.id


def test_without_its_table_it_changes_nothing() -> None:
    plugins = loaded("signed_urls")
    request = Request("GET", f"{HOST}/a?{S3_4}")
    assert plugins.cache_key(request, make_policy(), SECRET) == rules.cache_key(
        request, make_policy(), SECRET
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hosts": ["https://x/"]}, "hosts: 'https://x/' is no host"),
        ({"hosts": ["x:443"]}, "hosts: 'x:443' is no host"),
        ({"hosts": "x"}, "hosts: must be a list"),
        ({"host": ["x"]}, "host: unknown key; there is hosts"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        loaded("signed_urls", **settings)


def test_a_release_download_through_a_running_buffy(origin: Origin) -> None:
    """The redirect is made anew each time and points to a link that is signed anew; the content is fetched
    once, and answers when the store of objects is down."""
    config = """
[[rule]]
match = "**/objects/**"
strategy = "never"

[plugins.signed_urls]
hosts = ["127.0.0.1"]
"""
    target = origin.serve("/objects/tool-1.0.tgz", b"tool")
    count = iter("123456789")
    redirect = origin.serve("/releases/tool-1.0.tgz", status=302)
    with RunningBuffy(config, plugins=[plugin_file("signed_urls")]) as buffy:
        for _ in range(3):
            link = f"{target.url}?{AZURE.replace('{n}', next(count))}"
            redirect.fields = {"Location": link, "Cache-Control": "no-store", "ETag": None}
            assert buffy.get(redirect.url).content == b"tool"
        assert (redirect.count, target.count) == (3, 1)
        assert "sig=" in target.requests[0].target
        target.fail("close")
        assert buffy.get(f"{target.url}?{AZURE.replace('{n}', '9')}").content == b"tool"


def test_the_error_of_one_link_does_not_answer_the_next(origin: Origin) -> None:
    """Even where the origin says that it may be kept."""
    config = """
[[rule]]
match = "**"
strategy = "never"

[plugins.signed_urls]
hosts = ["127.0.0.1"]
"""
    route = origin.serve("/objects/a", b"expired", {"Cache-Control": "max-age=600"}, status=403)
    with RunningBuffy(config, plugins=[plugin_file("signed_urls")]) as buffy:
        assert buffy.get(f"{route.url}?{AZURE.replace('{n}', '1')}").status_code == 403
        route.status, route.body = 200, b"tool"
        assert buffy.get(f"{route.url}?{AZURE.replace('{n}', '2')}").content == b"tool"
    assert route.count == 2
