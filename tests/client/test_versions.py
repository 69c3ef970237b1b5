"""Which version is served: the documented behaviour, on the real server."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from buffy_client import (
    BuffyCacheEmptyError,
    BuffyForcedVersionError,
    BuffyPyClient,
    BuffyServerError,
    BuffyUsageError,
    ReCachingStrategy,
    RequestCacheConfiguration,
)
from tests.client.conftest import address
from tests.support.answers import FRESH, STALE, Changing, fixed
from tests.support.buffy import Buffy
from tests.support.origin import Origin

Request = BuffyPyClient.Request
EACH_TIME = RequestCacheConfiguration(ReCachingStrategy.when_requested(), max_cached_unpinned_versions=5)


def content(request: Request) -> bytes:
    return b"".join(request.download_response_content(timeout_sec=20))


def ordered(client: BuffyPyClient, url: str, script: Changing, *bodies: bytes) -> tuple[Request, list[str]]:
    """A request with one version for each body, and their names, oldest first."""
    names = []
    for body in bodies:
        script.body = body
        request = client.create_request(url, cache_configuration=EACH_TIME)
        assert content(request) == body
        names.append(str(request.response_version))
    return request, names


def test_an_unordered_request_has_nothing(client: BuffyPyClient, caplog: pytest.LogCaptureFixture) -> None:
    request = client.create_request("http://b.example/", hold_request_order=True)
    assert request.response_version is request.next_version is request.previous_version is None
    assert "was not ordered" in caplog.text
    for act in (request.pin, request.list_cached_versions, request.get_filename, lambda: content(request)):
        with pytest.raises(BuffyUsageError, match=r"call order\(\) first"):
            act()


def test_neighbours_and_listing(client: BuffyPyClient, origin: Origin, path: str) -> None:
    script = Changing(b"")
    request, names = ordered(client, origin.on(path, script), script, b"one", b"two", b"three")
    assert [one.version for one in request.list_cached_versions()] == names[::-1]
    assert [one.version for one in request.list_cached_response_versions(skip=1, limit=1)] == [names[1]]
    assert (request.previous_version, request.next_version) == (names[1], None)
    request.force_version = names[0]
    assert (request.previous_version, request.next_version) == (None, names[1])
    assert content(request) == b"one"


def test_a_preference_gives_way_and_force_does_not(client: BuffyPyClient, origin: Origin, path: str) -> None:
    script = Changing(b"")
    request, names = ordered(client, origin.on(path, script), script, b"one", b"two")
    request.prefer_version, request.prefere_tag, request.prefer_pinned = "nonsense", "absent", True
    assert content(request) == b"two"
    request.prefere_version = names[0]
    assert content(request) == b"one"
    request.force_tag = "absent"
    with pytest.raises(BuffyForcedVersionError, match="'absent'"):
        content(request)
    request.force_tag, request.force_version = None, "nonsense"
    with pytest.raises(ValueError, match="version nonsense"):
        content(request)
    request.force_version, request.force_pinned = None, True
    with pytest.raises(BuffyForcedVersionError, match=r"\(pinned\)"):
        content(request)


def test_what_is_forced_together_must_hold_together(client: BuffyPyClient, origin: Origin, path: str) -> None:
    script = Changing(b"")
    request, names = ordered(client, origin.on(path, script), script, b"one", b"two")
    request.tag("first", names[0])
    request.force_version, request.force_tag = names[1], "first"
    with pytest.raises(BuffyForcedVersionError, match=f"version {names[1]}, tag 'first'"):
        content(request)
    request.force_version = names[0]
    assert content(request) == b"one"
    request.force_pinned = True
    with pytest.raises(BuffyForcedVersionError, match="pinned"):
        content(request)
    request.pin(response_version=names[0])
    assert content(request) == b"one"


def test_order_takes_the_same_wishes(client: BuffyPyClient, origin: Origin, path: str) -> None:
    script = Changing(b"")
    url = origin.on(path, script)
    request, names = ordered(client, url, script, b"one", b"two")
    request.tag("first", names[0])
    for wishes in ({"prefer_tag": "first"}, {"prefer_version": names[0]}, {"force_tag": "first"}):
        request = client.create_request(url, hold_request_order=True)
        request.order(**wishes)
        assert content(request) == b"one", wishes
    request = client.create_request(url, hold_request_order=True)
    request.force_version = names[0]  # set before the order, it stays
    request.order()
    assert content(request) == b"one"


def test_the_documented_spelling_and_its_alias_are_one(client: BuffyPyClient) -> None:
    request = client.create_request("http://b.example/", hold_request_order=True)
    for name in ("tag", "version", "pinned"):
        setattr(request, f"prefer_{name}", "a")
        assert getattr(request, f"prefere_{name}") == "a"
        setattr(request, f"prefere_{name}", "b")
        assert getattr(request, f"prefer_{name}") == "b"


def test_a_pin_for_a_time(client: BuffyPyClient, origin: Origin, path: str) -> None:
    script = Changing(b"")
    request, names = ordered(client, origin.on(path, script), script, b"one", b"two")
    assert request.pin(response_version=names[0], duration_sec=2) == names[0]
    newest, oldest = request.list_cached_versions()
    assert (newest.is_pinned, oldest.is_pinned) == (False, True)
    assert oldest.pinned_until_utc is not None
    request.prefere_pinned = True
    assert content(request) == b"one"
    time.sleep(2.1)
    assert not any(one.is_pinned for one in request.list_cached_versions())


def test_pin_and_unpin_the_current_version(client: BuffyPyClient, origin: Origin, path: str) -> None:
    request = client.create_request(origin.on(path, fixed(b"x", FRESH)))
    assert request.pin() == request.response_version
    assert request.list_cached_versions()[0].pinned
    assert request.unpin() == request.response_version
    assert not request.list_cached_versions()[0].pinned


def test_tags_move_and_go(client: BuffyPyClient, origin: Origin, path: str) -> None:
    script = Changing(b"")
    request, names = ordered(client, origin.on(path, script), script, b"one", b"two")
    assert request.tag("good") == names[1]
    assert request.tag("good", names[0]) == names[0]
    assert [one.version for one in request.list_cached_versions(tag="good")] == [names[0]]
    assert request.tag("good", names[0], remove_tag=True) == names[0]
    assert request.tag("never-there", names[0], remove_tag=True) == names[0]
    assert request.list_cached_versions(tag="good") == []


@pytest.mark.parametrize("tag", ["a", "with space", "x" * 65, "line\n", ""])
def test_what_is_no_tag(client: BuffyPyClient, tag: str) -> None:
    with pytest.raises(ValueError, match="is no tag"):
        client.create_request("http://b.example/", hold_request_order=True).tag(tag)


def test_pinning_what_does_not_exist(client: BuffyPyClient, origin: Origin, path: str) -> None:
    request = client.create_request(origin.on(path, fixed(b"x", FRESH)))
    with pytest.raises(BuffyServerError, match="cannot pin version nonsense") as caught:
        request.pin(response_version="nonsense")
    assert caught.value.status == 404


def test_a_failed_download_falls_back_to_the_newest_good_version(
    client: BuffyPyClient, origin: Origin, path: str
) -> None:
    script = Changing(b"", STALE)
    url = origin.on(path, script)
    _, names = ordered(client, url, script, b"one", b"two")
    script.status = 404
    request = client.create_request(url)
    assert content(request) == b"two"
    assert request.response_version == names[1]


def test_nothing_stored_and_the_download_failed(client: BuffyPyClient, origin: Origin, path: str) -> None:
    request = client.create_request(origin.on(path, fixed(b"no", status=404)))
    with pytest.raises(BuffyCacheEmptyError, match="404"):
        content(request)
    assert request.list_cached_versions() == []


def test_not_waiting_for_the_stored_one(client: BuffyPyClient, origin: Origin, path: str) -> None:
    script = Changing(b"one")
    url = origin.on(path, script)
    never = RequestCacheConfiguration(ReCachingStrategy.never())
    assert content(client.create_request(url, cache_configuration=never)) == b"one"
    script.body = b"two"
    assert content(client.create_request(url)) == b"one"
    assert origin.hits(path) == 1


def test_the_configuration_reaches_the_server(client: BuffyPyClient, origin: Origin, path: str) -> None:
    url = origin.on(path, fixed(b"x", FRESH))
    config = RequestCacheConfiguration(ReCachingStrategy.age(seconds=3601), max_cached_unpinned_versions=3)
    request = client.create_request(url, cache_configuration=config)
    config.max_cached_unpinned_versions = 99  # a copy was taken
    assert request.cache_configuration == RequestCacheConfiguration(ReCachingStrategy.age(3601), 3)
    request.cache_configuration = RequestCacheConfiguration(ReCachingStrategy.never())
    assert request.cache_configuration == RequestCacheConfiguration(ReCachingStrategy.never())
    assert client.create_request(url).cache_configuration == request.cache_configuration


def test_a_configuration_before_the_order(client: BuffyPyClient, origin: Origin, path: str) -> None:
    request = client.create_request(origin.on(path, fixed(b"x", FRESH)), hold_request_order=True)
    assert request.cache_configuration is None
    request.cache_configuration = RequestCacheConfiguration(ReCachingStrategy.never())
    request.order()
    assert request.cache_configuration == RequestCacheConfiguration(ReCachingStrategy.never())


def test_groups_are_sandboxes(server: Buffy, origin: Origin, path: str) -> None:
    url = origin.on(path, fixed(b"x", FRESH))
    mine, other = (BuffyPyClient(address(server), group_name=path + name) for name in ("mine", "other"))
    first, second = mine.create_request(url), other.create_request(url)
    assert content(first) == content(second) == b"x"
    first.tag("only-mine")
    assert second.list_cached_versions(tag="only-mine") == []
    assert origin.hits(path) == 2


def test_the_same_url_by_proxy_and_by_client(server: Buffy, origin: Origin, path: str, empty: Path) -> None:
    script = Changing(b"one", FRESH)
    url = origin.on(path, script)
    assert server.get(url).body == b"one"
    client = BuffyPyClient(address(server), local_download_fallback=False)
    request = client.create_request(url)
    assert content(request) == b"one"
    assert origin.hits(path) == 1
    request.cache_configuration = RequestCacheConfiguration(ReCachingStrategy.when_requested())
    script.body = b"two"
    assert content(client.create_request(url)) == b"two"
    assert [one.version for one in request.list_cached_versions()][1] == request.response_version
