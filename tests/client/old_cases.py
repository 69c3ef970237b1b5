"""What the package DZDBuffy 0.7.3 does with our server. Runs in that package's own environment, unmodified:

    python old_cases.py CASE API_URL ORIGIN_URL

`ORIGIN_URL/counting/…` answers with another number each time, `…/named/…` with a file name, `…/gone`
with 404, `…/echo` with the request. Every case is a function that asserts; "ok" is printed at its end.
"""

import inspect
import io
import json
import os
import sys
import tempfile
from pathlib import Path

from buffy.buffypyclient import BuffyPyClient, ReCachingStrategy, RequestCacheConfiguration
from buffy.buffypyclient.buffypyclient import BuffyCacheEmptyError

CASE, API, ORIGIN = sys.argv[1:4]
EACH_TIME = RequestCacheConfiguration(
    recaching_strategy=ReCachingStrategy.when_requested(), max_cached_unpinned_versions=5
)


def connect(**options):
    options = {"group_name": CASE, "local_download_fallback": False, **options}
    return BuffyPyClient(url=API, **options)


def content(request):
    return b"".join(request.download_response_content())


def fresh(client, url):
    """A new version: the one on its way is waited for."""
    request = client.create_request(url, cache_configuration=EACH_TIME, hold_request_order=True)
    request.order(prefer_cached=False)
    content(request)
    return request


def order_and_stream():
    request = connect().create_request(ORIGIN + "/counting/stream")
    chunks = list(request.download_response_content(chunk_size=4))
    assert b"".join(chunks) == b"number 1" and len(chunks) == 2, chunks


def cached_order():
    client = connect()
    assert [content(client.create_request(ORIGIN + "/counting/cached")) for _ in range(3)] == [
        b"number 1"
    ] * 3


def download_to():
    request = connect().create_request(ORIGIN + "/named/page")
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory, "a")
        assert request.download_response_content_to(target) == target and target.read_bytes() == b"named"
        request.download_response_content_to(str(Path(directory, "b")))
        assert Path(directory, "b").read_bytes() == b"named"
        named = request.download_response_content_to(dir=directory)
        assert named == Path(directory, "my data.csv") and named.read_bytes() == b"named", named
    sink = io.BytesIO()
    request.download_response_content_to(sink)
    assert sink.getvalue() == b"named"


def get_filename():
    client = connect()
    assert client.create_request(ORIGIN + "/named/page").get_filename() == "my data.csv"
    assert client.create_request(ORIGIN + "/counting/data.txt?x=1").get_filename() == "data.txt"


def methods_and_bodies():
    client = connect()
    for method in ("post", "put"):
        request = client.create_request(
            ORIGIN + "/echo",
            http_method=method,
            http_query_params={"q": "a b"},
            http_request_body={"k": [1, 2]},
            http_header_fields={"X-Mine": "1"},
            info_description="why",
            info_link="http://b.example/about",
        )
        head, _, body = content(request).decode().partition("\r\n\r\n")
        assert head.startswith(method.upper() + " /echo?q=a+b "), head
        assert "x-mine: 1" in head.lower() and json.loads(body) == {"k": [1, 2]}, body


def hold_and_order():
    request = connect().create_request(ORIGIN + "/counting/held", hold_request_order=True)
    assert request.response_version is None
    request.order()
    assert content(request) == b"number 1"


def strategies():
    client = connect()
    cases = [
        ReCachingStrategy.never(),
        ReCachingStrategy.age(seconds=3601),
        ReCachingStrategy.cron(cron="1 2 * * *", run_at_start=False),
        ReCachingStrategy.when_requested(),
        ReCachingStrategy.when_remote_changed(check_interval_sec=5, fallback_max_age_sec=7),
    ]
    assert len(cases) == len(ReCachingStrategy.list())
    for number, strategy in enumerate(cases):
        config = RequestCacheConfiguration(recaching_strategy=strategy, max_cached_unpinned_versions=3)
        url = f"{ORIGIN}/counting/strategy{number}"
        request = client.create_request(url, cache_configuration=config)
        assert content(request).startswith(b"number")
        found = client.create_request(url).cache_configuration
        assert found.recaching_strategy.dict() == strategy.dict(), found
        assert (found.max_cached_unpinned_versions, found.max_cached_pinned_versions) == (3, 10)


def set_configuration():
    client = connect()
    request = client.create_request(ORIGIN + "/counting/configured")
    assert request.cache_configuration.recaching_strategy.strategy_name == "when_remote_changed"
    request.cache_configuration = RequestCacheConfiguration(recaching_strategy=ReCachingStrategy.never())
    again = client.create_request(ORIGIN + "/counting/configured").cache_configuration
    assert again.recaching_strategy.strategy_name == "never" and again.request_id, again


def listing_and_neighbours():
    client, url = connect(), ORIGIN + "/counting/listed"
    requests = [fresh(client, url) for _ in range(3)]
    request, names = requests[-1], [one.response_version for one in requests]
    found = request.list_cached_response_versions()
    assert [one.version for one in found] == names[::-1] == sorted(names, reverse=True), found
    assert [one.version for one in request.list_cached_response_versions(skip=1, limit=1)] == [names[1]]
    assert request.list_cached_response_versions(status="failed") == []
    request = client.create_request(url)
    request.force_version = names[1]  # that client looks at it once only
    assert content(request) == b"number 2"
    assert request.response_version == names[1]
    assert (request.previous_version, request.next_version) == (names[0], names[2])


def pin_for_a_time():
    client, url = connect(), ORIGIN + "/counting/pinned"
    request = fresh(client, url)
    name = request.response_version
    assert request.pin() == name
    (found,) = request.list_cached_response_versions()
    assert found.pinned and found.is_pinned
    request.unpin()
    (found,) = request.list_cached_response_versions()
    assert not found.is_pinned
    assert request.pin(duration_sec=60) == name
    (found,) = request.list_cached_response_versions()
    assert found.is_pinned and found.pinned_until_utc is not None
    fresh(client, url)
    pinned = client.create_request(url, hold_request_order=True)
    pinned.order(force_pinned=True)
    assert content(pinned) == b"number 1"
    preferred = client.create_request(url, hold_request_order=True)
    preferred.order(prefer_pinned=True)
    assert content(preferred) == b"number 1"


def tag_and_fetch():
    client, url = connect(), ORIGIN + "/counting/tagged"
    first = fresh(client, url)
    assert first.tag("worked-for-me") == first.response_version
    fresh(client, url)
    for wish in ({"force_tag": "worked-for-me"}, {"prefer_tag": "worked-for-me"}):
        request = client.create_request(url, hold_request_order=True)
        request.order(**wish)
        assert content(request) == b"number 1", wish
    assert [one.tags for one in request.list_cached_response_versions(tag="worked-for-me")] == [
        ["worked-for-me"]
    ]
    first.tag("worked-for-me", remove_tag=True)
    assert request.list_cached_response_versions(tag="worked-for-me") == []


def force_and_prefer_versions():
    client, url = connect(), ORIGIN + "/counting/forced"
    names = [fresh(client, url).response_version for _ in range(2)]
    request = client.create_request(url, hold_request_order=True)
    request.order(force_version=names[0])
    assert content(request) == b"number 1"
    request = client.create_request(url)
    request.prefere_version = names[0]
    assert content(request) == b"number 1"
    request = client.create_request(url)
    request.force_version = "nonsense"
    try:
        content(request)
    except ValueError:
        return
    raise AssertionError("a forced version that does not exist was no error")


def groups():
    url = ORIGIN + "/counting/grouped"
    one, other = connect(group_name="old-one"), connect(group_name="old-other")
    assert content(one.create_request(url)) == b"number 1"
    assert content(other.create_request(url)) == b"number 2"
    assert content(one.create_request(url)) == b"number 1"


def failed_download():
    try:
        content(connect().create_request(ORIGIN + "/gone"))
    except BuffyCacheEmptyError:
        return
    raise AssertionError("a failed download without any version was no error")


def from_env():
    os.environ.update(BUFFY_SERVER_URL=API, BUFFY_GROUP_NAME="from-env")
    client = BuffyPyClient.from_env()
    assert client.group_name == "from-env"
    assert content(client.create_request(ORIGIN + "/counting/env")) == b"number 1"


def single_parts_and_base_path():
    host, _, port = API.partition("//")[2].partition(":")
    client = BuffyPyClient(host=host, port=int(port), group_name=CASE, local_download_fallback=False)
    assert client.api_url == API + "/v1"
    assert content(client.create_request(ORIGIN + "/counting/parts")) == b"number 1"
    slashed = BuffyPyClient(url=API + "/", group_name=CASE, local_download_fallback=False)
    assert slashed.api_url == API + "///v1"  # that is how this client writes it
    assert content(slashed.create_request(ORIGIN + "/counting/parts")) == b"number 1"


def server_down():
    client = BuffyPyClient(host="localhost", port=9)
    assert content(client.create_request(ORIGIN + "/counting/down")) == b"number 1"


def surface():
    """Prints its public names, so that the test sees that no method is forgotten here."""
    for kind in (BuffyPyClient, BuffyPyClient.Request):
        print(*sorted(name for name, _ in inspect.getmembers(kind) if not name.startswith("_")))


if __name__ == "__main__":
    globals()[CASE]()
    print("ok")
