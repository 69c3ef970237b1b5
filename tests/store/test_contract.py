"""What every Store does, whichever keeps the versions: run for LMDB and for memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from buffy_proxy.core.model import BodyRef, Retention, Version
from buffy_proxy.core.versions import name_time, next_name
from buffy_proxy.errors import BodyMissing, NotFound, StoreError
from buffy_proxy.store import Due, Store
from buffy_proxy.store.bodies import INLINE_LIMIT
from buffy_proxy.store.memory import MemoryStore
from tests.store.kit import LARGE, NOW, content_of, findings, key, lmdb_store, put, put_error, version

MAX_SIZE = 1_000_000


@pytest.fixture(params=["lmdb", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store with a cap of a million bytes; the one on disk must be clean at the end."""
    if request.param == "memory":
        yield MemoryStore(max_size=MAX_SIZE)
        return
    opened = lmdb_store(tmp_path, max_size=MAX_SIZE)
    yield opened
    opened.close()
    assert findings(tmp_path) == []


class TestVersions:
    def test_what_is_stored_comes_back(self, store: Store) -> None:
        fields = ((b"X-A", b""), (b"x-a", b"\xff\xfe"), (b"X-A", b" folded\r\n line"))
        stored = put(
            store,
            b"hello",
            fields=fields,
            reason=b"F\xfcr gut",
            refresh_at=NOW + 5,
            tags=frozenset({"a", "b"}),
            pinned_until=math.inf,
        )
        assert stored.kind == "stored"
        assert not stored.changed
        found = store.version("id-page", stored.version.name)
        assert found == stored.version
        assert found.fields == fields
        assert store.versions("id-page") == (found,)
        assert content_of(store, found) == b"hello"

    @pytest.mark.parametrize("size", [0, 1, INLINE_LIMIT, INLINE_LIMIT + 1, LARGE])
    def test_any_size(self, store: Store, size: int) -> None:
        content = bytes(i * 7 % 251 for i in range(size))
        stored = put(store, content).version
        assert stored.body.size == size
        assert content_of(store, stored) == content
        assert store.open_body(stored.body).read_at(size, 10) == b""
        assert store.open_body(stored.body).read_at(max(0, size - 3), 10) == content[-3:]

    def test_newest_first(self, store: Store) -> None:
        names = [put(store, b"%d" % i, now=NOW + i).version.name for i in range(3)]
        retention = Retention(max_cached_unpinned_versions=9)
        names = [put(store, b"n%d" % i, retention=retention).version.name for i in range(5)]
        assert [v.name for v in store.versions("id-page")][:5] == sorted(names, reverse=True)

    def test_two_within_one_instant_do_not_collide(self, store: Store) -> None:
        assert put(store, b"a").version.name < put(store, b"b").version.name

    @pytest.mark.parametrize("resource_id", ["", "nobody", "x" * 5000, "a\0b", "ä", "../x", "a b"])
    def test_unknown_ids_are_nothing(self, store: Store, resource_id: str) -> None:
        put(store, b"a")
        assert store.resource(resource_id) is None
        assert store.versions(resource_id) == ()
        assert store.version(resource_id, "x") is None
        assert store.version("id-page", resource_id) is None
        assert store.error_response(resource_id) is None
        assert store.counters(resource_id) == {}
        assert store.delete(resource_id).result(20) == 0
        assert store.invalidate(resource_id).result(20) == 0
        store.touch([resource_id], NOW).result(20)
        store.schedule(resource_id, "x", NOW).result(20)

    def test_ids_that_begin_alike_do_not_mix(self, store: Store) -> None:
        put(store, b"a", name="x")
        put(store, b"b", name="x1")
        put(store, b"c", name="x-")
        assert [content_of(store, v) for v in store.versions("id-x")] == [b"a"]


class TestIdenticalBytes:
    def test_freshen_the_version(self, store: Store) -> None:
        first = put(store, b"same", fields=((b"ETag", b'"1"'),)).version
        store.set_pin("id-page", first.name, math.inf, now=NOW).result(20)
        store.set_tag("id-page", first.name, "good", True, now=NOW).result(20)
        again = put(store, b"same", now=NOW + 100, fields=((b"ETag", b'"2"'),), refresh_at=NOW + 500)
        assert again.kind == "freshened"
        assert not again.changed
        assert again.version.name == first.name
        assert again.version.cached_at == NOW
        assert again.version.pinned_until == math.inf
        assert again.version.tags == {"good"}
        assert again.version.fields == ((b"ETag", b'"2"'),)
        assert again.version.fresh_until == NOW + 160
        assert store.versions("id-page") == (again.version,)
        assert store.due(NOW + 500, 9) == [Due(NOW + 500, "id-page", first.name)]

    def test_only_the_newest_of_the_variant_counts(self, store: Store) -> None:
        first = put(store, b"a").version
        put(store, b"b")
        third = put(store, b"a")
        assert third.kind == "stored"
        assert third.changed
        assert third.version.name > first.name

    def test_another_variant_is_another_version(self, store: Store) -> None:
        vary = ((b"Vary", b"Accept-Language"),)
        english = put(store, b"x", fields=vary, request_fields=((b"Accept-Language", b"en"),))
        german = put(store, b"x", fields=vary, request_fields=((b"Accept-Language", b"de"),))
        assert (english.kind, german.kind, german.changed) == ("stored", "stored", False)
        assert len(store.versions("id-page")) == 2

    @pytest.mark.parametrize("size", [10, LARGE])
    def test_are_stored_once_whatever_their_url(self, store: Store, size: int) -> None:
        for name in ("a", "b", "c"):
            put(store, b"z" * size, name=name)
        usage = store.usage()
        assert (usage.resources, usage.versions, usage.bodies, usage.body_bytes) == (3, 3, 1, size)
        store.delete("id-a").result(20)
        store.gc(NOW + 10**9, 0.0).result(20)
        assert content_of(store, store.versions("id-b")[0]) == b"z" * size


class TestRetention:
    def test_unpinned_beyond_the_limit_go(self, store: Store) -> None:
        first = put(store, b"1").version
        put(store, b"2")
        third = put(store, b"3")
        assert third.dropped == (first.name,)
        assert [content_of(store, v) for v in store.versions("id-page")] == [b"3", b"2"]

    def test_pinned_have_their_own_limit(self, store: Store) -> None:
        kept = put(store, b"1").version
        store.set_pin("id-page", kept.name, math.inf, now=NOW).result(20)
        for i in range(4):
            put(store, b"n%d" % i)
        assert [content_of(store, v) for v in store.versions("id-page")] == [b"n3", b"n2", b"1"]

    def test_tagged_stay(self, store: Store) -> None:
        kept = put(store, b"1").version
        store.set_tag("id-page", kept.name, "release", True, now=NOW).result(20)
        for i in range(4):
            put(store, b"n%d" % i)
        assert kept.name in [v.name for v in store.versions("id-page")]


class TestMetadata:
    def test_update_keeps_body_pin_and_tags(self, store: Store) -> None:
        stored = put(store, b"a").version
        store.set_pin("id-page", stored.name, NOW + 7, now=NOW).result(20)
        store.set_tag("id-page", stored.name, "t", True, now=NOW).result(20)
        change = version(NOW + 50, resource_id="id-page", name=stored.name, status=203)
        updated = store.update_version(change).result(20)
        assert (updated.status, updated.fresh_until, updated.validated_at) == (203, NOW + 110, NOW + 50)
        assert (updated.body, updated.pinned_until, updated.tags) == (stored.body, NOW + 7, frozenset("t"))
        assert updated.cached_at == NOW
        assert store.version("id-page", stored.name) == updated

    def test_update_of_what_is_gone(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.update_version(version(resource_id="id-page", name="abc")).result(20)

    def test_invalidate(self, store: Store) -> None:
        put(store, b"a", fresh_until=math.inf)
        put(store, b"b")
        assert store.invalidate("id-page").result(20) == 2
        assert {v.fresh_until for v in store.versions("id-page")} == {-math.inf}

    def test_pin_and_unpin(self, store: Store) -> None:
        name = put(store, b"a").version.name
        assert store.set_pin("id-page", name, NOW + 5, now=NOW).result(20).pinned(NOW)
        assert store.set_pin("id-page", name, None, now=NOW).result(20).pinned_until is None
        with pytest.raises(NotFound):
            store.set_pin("id-page", "zzz", None, now=NOW).result(20)

    def test_a_tag_moves(self, store: Store) -> None:
        first, second = put(store, b"a").version.name, put(store, b"b").version.name
        store.set_tag("id-page", first, "t", True, now=NOW).result(20)
        store.set_tag("id-page", first, "other", True, now=NOW).result(20)
        store.set_tag("id-page", second, "t", True, now=NOW).result(20)
        assert [v.tags for v in store.versions("id-page")] == [{"t"}, {"other"}]
        assert store.set_tag("id-page", second, "t", False, now=NOW).result(20).tags == frozenset()
        assert store.set_tag("id-page", second, "absent", False, now=NOW).result(20).tags == frozenset()
        with pytest.raises(NotFound):
            store.set_tag("id-page", "zzz", "t", False, now=NOW).result(20)


class TestErrors:
    def test_beside_the_versions(self, store: Store) -> None:
        put(store, b"good")
        put_error(store, b"bad")
        assert [content_of(store, v) for v in store.versions("id-page")] == [b"good"]
        error = store.error_response("id-page")
        assert error is not None
        assert (error.status, content_of(store, error)) == (503, b"bad")
        assert store.usage().versions == 1

    def test_the_next_replaces_it_and_a_version_removes_it(self, store: Store) -> None:
        put_error(store, b"bad")
        put_error(store, b"worse", fresh_until=NOW + 20)
        error = store.error_response("id-page")
        assert error is not None
        assert content_of(store, error) == b"worse"
        put(store, b"good")
        assert store.error_response("id-page") is None

    def test_gone_when_invalidated_or_stale(self, store: Store) -> None:
        put_error(store, b"bad", name="a")
        put_error(store, b"bad", name="b", fresh_until=NOW + 9)
        store.invalidate("id-a").result(20)
        assert store.error_response("id-a") is None
        assert store.resource("id-a") is None
        store.gc(NOW + 8).result(20)
        assert store.error_response("id-b") is not None
        store.gc(NOW + 9).result(20)
        assert store.error_response("id-b") is None
        assert store.usage().resources == 0


class TestDue:
    def test_in_order_of_time(self, store: Store) -> None:
        for name, at in (("c", 30.0), ("a", -math.inf), ("b", 20.0), ("d", math.inf)):
            put(store, b"x", name=name, refresh_at=at if math.isinf(at) else NOW + at)
        put(store, b"x", name="never")
        assert [due.resource_id for due in store.due(NOW + 30, 9)] == ["id-a", "id-b", "id-c"]
        assert [due.resource_id for due in store.due(NOW + 30, 2)] == ["id-a", "id-b"]
        assert [due.resource_id for due in store.due(NOW + 29, 9)] == ["id-a", "id-b"]
        assert store.next_due() == -math.inf

    def test_moves_and_ends(self, store: Store) -> None:
        name = put(store, b"x", refresh_at=NOW + 1).version.name
        store.schedule("id-page", name, NOW + 77).result(20)
        assert store.due(NOW + 76, 9) == []
        assert store.next_due() == NOW + 77
        found = store.version("id-page", name)
        assert found is not None
        assert found.refresh_at == NOW + 77
        store.schedule("id-page", name, None).result(20)
        assert store.next_due() is None

    def test_only_the_newest_of_a_variant(self, store: Store) -> None:
        put(store, b"1", refresh_at=NOW + 1)
        second = put(store, b"2", refresh_at=NOW + 2).version
        assert store.due(NOW + 9, 9) == [Due(NOW + 2, "id-page", second.name)]
        assert [v.refresh_at for v in store.versions("id-page")] == [NOW + 2, None]
        store.delete("id-page", second.name).result(20)
        assert store.next_due() is None


class TestResources:
    def test_oldest_first_in_pages_and_groups(self, store: Store) -> None:
        for i in range(300):
            put(store, b"x", name=f"{i * 7919 % 1000}", now=NOW - i, group="odd" if i % 2 else "even")
        wanted = [f"id-{i * 7919 % 1000}" for i in range(300)]
        assert [r.id for r in store.resources()] == wanted
        assert [r.id for r in store.resources(group="odd")] == wanted[1::2]
        assert [r.id for r in store.resources(group="none")] == []
        assert [r.id for r in store.resources(after=wanted[41])] == wanted[42:]
        assert [r.id for r in store.resources(group="even", after=wanted[40])] == wanted[42::2]
        assert [r.id for r in store.resources(group="even", after=wanted[41])] == wanted[42::2]
        assert list(store.resources(after=wanted[-1])) == []

    def test_going_on_from_nowhere(self, store: Store) -> None:
        with pytest.raises(NotFound):
            next(store.resources(after="nobody"))

    def test_policy_and_info(self, store: Store) -> None:
        made = store.set_policy(key(), {"s": 1}, None, now=NOW).result(20)
        assert (made.policy, made.info, made.created_at, made.key) == ({"s": 1}, {}, NOW, key())
        again = store.set_policy(key(), None, {"d": "é"}, now=NOW + 5.5).result(20)
        assert (again.policy, again.info, again.created_at) == ({"s": 1}, {"d": "é"}, NOW)
        assert again.requested_at == NOW + 5.5
        assert store.resource("id-page") == again
        put(store, b"x")
        assert store.resource("id-page") == again

    def test_a_look_has_the_resource_if_it_has_a_policy(self, store: Store) -> None:
        stored = put(store, b"x").version
        assert (store.look("id-page").versions, store.look("id-page").resource) == ((stored,), None)
        store.set_policy(key(), None, {"d": "x"}, now=NOW).result(20)
        assert store.look("id-page").resource is None
        made = store.set_policy(key(), {"s": 1}, None, now=NOW).result(20)
        assert store.look("id-page").resource == made
        store.delete("id-page").result(20)
        put(store, b"y")
        assert store.look("id-page").resource is None

    def test_touch_is_coarse(self, store: Store) -> None:
        put(store, b"x")
        store.touch(["id-page", "id-page"], NOW + 30).result(20)
        found = store.resource("id-page")
        assert found is not None
        assert found.requested_at == NOW
        store.touch(["id-page"], NOW + 60).result(20)
        store.touch(["id-page"], NOW - 500).result(20)
        found = store.resource("id-page")
        assert found is not None
        assert found.requested_at == NOW + 60

    def test_counters(self, store: Store) -> None:
        store.count("run-1", {"hits": 2, "bytes": 10**15}).result(20)
        store.count("run-1", {"hits": 3}).result(20)
        assert store.counters("run-1") == {"hits": 5, "bytes": 10**15}
        assert store.counters("run-2") == {}

    def test_resources_are_skipped(self, store: Store) -> None:
        for number in range(300):
            put(store, b"%d" % number, name=f"n{number}", group="even" if number % 2 == 0 else "odd")
        ids = [resource.id for resource in store.resources()]
        even = [resource.id for resource in store.resources(group="even")]
        for skip in (0, 1, 127, 128, 149, 150, 299, 300, 10_000):
            assert [resource.id for resource in store.resources(skip=skip)] == ids[skip:]
            assert [resource.id for resource in store.resources(group="even", skip=skip)] == even[skip:]
        assert [r.id for r in store.resources(after=ids[9], skip=5)] == ids[15:]

    def test_documents(self, store: Store) -> None:
        store.put_documents([("note", f"a/{n:03}", b"%d" % n) for n in range(300)]).result(20)
        store.put_documents([("note", "b/1", b""), ("other", "a/000", b"else")]).result(20)
        assert store.document("note", "a/007") == b"7"
        assert store.document("note", "b/1") == b"" and store.document("note", "c") is None
        assert [value for _, value in store.documents("note", prefix="a/")] == [b"%d" % n for n in range(300)]
        assert [key for key, _ in store.documents("note", after="a/298")] == ["a/299", "b/1"]
        store.put_documents([("note", "a/007", None), ("note", "unknown", None)]).result(20)
        assert store.document("note", "a/007") is None
        assert store.document("other", "a/000") == b"else"
        assert list(store.documents("unknown")) == []

    def test_a_document_with_an_unusable_name_stores_nothing(self, store: Store) -> None:
        with pytest.raises(StoreError):
            store.put_documents([("note", "fine", b"x"), ("note", "not\0fine", b"x")]).result(20)

    def test_an_announced_name_is_kept_unless_a_newer_one_came(self, store: Store) -> None:
        first = put(store, b"a").version
        later = next_name(name_time(first.name) + 10, None)
        assert add_named(store, b"b", later).name == later
        assert add_named(store, b"c", first.name).name > later


def add_named(store: Store, content: bytes, name: str) -> Version:
    body = store.new_body()
    body.write(content)
    made = replace(version(NOW, body=body.finish()), name=name)
    outcome = store.add_version(key("page"), made, body, Retention(), now=NOW).result(20)
    body.close()
    return outcome.version


class TestDelete:
    def test_one_version(self, store: Store) -> None:
        first, second = put(store, b"a").version, put(store, b"b").version
        assert store.delete("id-page", first.name).result(20) == 1
        assert store.delete("id-page", first.name).result(20) == 0
        assert store.versions("id-page") == (second,)
        assert store.delete("id-page", second.name).result(20) == 1
        assert store.resource("id-page") is None

    def test_what_is_configured_stays(self, store: Store) -> None:
        store.set_policy(key(), {"s": 1}, None, now=NOW).result(20)
        name = put(store, b"a").version.name
        store.delete("id-page", name).result(20)
        assert store.resource("id-page") is not None
        store.delete("id-page").result(20)
        assert store.resource("id-page") is None
        assert list(store.resources()) == []

    def test_the_resource_with_all(self, store: Store) -> None:
        store.set_pin("id-page", put(store, b"a").version.name, math.inf, now=NOW).result(20)
        put(store, b"b", refresh_at=NOW)
        put_error(store, b"c")
        assert store.delete("id-page").result(20) == 2
        usage = store.usage()
        assert (usage.resources, usage.versions, usage.bodies, usage.body_bytes) == (0, 0, 0, 0)
        assert store.next_due() is None
        assert list(store.resources()) == []


class TestRoom:
    @pytest.mark.parametrize("size", [100, LARGE])
    def test_a_body_outlives_its_version_for_the_grace(self, store: Store, size: int) -> None:
        retention = Retention(max_cached_unpinned_versions=1)
        old = put(store, b"a" * size, retention=retention).version
        put(store, b"b", now=NOW + 10, retention=retention)
        assert store.gc(NOW + 129, 120.0).result(20) == 0
        assert content_of(store, old) == b"a" * size
        reader = store.open_body(old.body)
        assert store.gc(NOW + 131, 120.0).result(20) == size
        assert reader.read_at(0, 10**6) == b"a" * size
        with pytest.raises(BodyMissing):
            store.open_body(old.body)

    def test_content_wanted_again_leaves_the_trash(self, store: Store) -> None:
        old = put(store, b"a" * LARGE, name="first").version
        store.delete("id-first").result(20)
        put(store, b"a" * LARGE, name="second")
        store.gc(NOW + 10**9, 0.0).result(20)
        assert content_of(store, old) == b"a" * LARGE
        assert store.usage().bodies == 1

    def test_the_least_recently_used_go(self, store: Store) -> None:
        for i in range(9):
            put(store, b"%d" % i * 100_000, name=f"{i}", now=NOW + i)
        store.touch(["id-0"], NOW + 1000).result(20)
        for i in range(9, 11):
            put(store, b"%d" % i + b"x" * 100_000, name=f"{i}", now=NOW + 2000)
        store.gc(NOW + 3000).result(20)
        left = {r.id for r in store.resources()}
        assert store.usage().body_bytes <= 0.95 * MAX_SIZE + 2
        assert "id-0" in left
        assert {"id-1", "id-2"} & left == set()
        assert "id-10" in left

    def test_never_what_is_pinned_or_tagged(self, store: Store) -> None:
        pinned, tagged, expired = (
            put(store, name.encode() * 100_000, name=name).version for name in ("p", "t", "e")
        )
        store.set_pin("id-p", pinned.name, math.inf, now=NOW).result(20)
        store.set_tag("id-t", tagged.name, "x", True, now=NOW).result(20)
        store.set_pin("id-e", expired.name, 1.0, now=0.0).result(20)
        for i in range(12):
            put(store, b"%d" % i * 100_000, name=f"{i}", now=NOW + 5)
        store.gc(NOW + 10).result(20)
        assert content_of(store, pinned) == b"p" * 100_000
        assert content_of(store, tagged) == b"t" * 100_000
        assert store.version("id-e", expired.name) is None
        assert store.usage().body_bytes <= MAX_SIZE

    def test_only_protected_versions_are_more_than_fits(self, store: Store) -> None:
        for i in range(12):
            put(store, bytes([i]) * 100_000, name=f"{i}", pinned_until=math.inf)
        store.gc(NOW).result(20)
        usage = store.usage()
        assert (usage.versions, usage.body_bytes) == (12, 1_200_000)

    def test_usage_names_the_cap(self, store: Store) -> None:
        assert store.usage().capacity == MAX_SIZE


class TestBodies:
    def test_reading_along(self, store: Store) -> None:
        body = store.new_body()
        sent = b""
        for i in range(100):
            chunk = b"%03d" % i * 300
            body.write(chunk)
            sent += chunk
            assert body.size == len(sent)
            assert body.read_at(0, 10**6) == sent
            assert body.read_at(len(sent) - 5, 100) == sent[-5:]
            assert body.read_at(len(sent), 100) == b""
        ref = body.finish()
        assert body.read_at(10, 20) == sent[10:30]
        with pytest.raises(BodyMissing):
            store.open_body(ref)
        body.abort()

    @pytest.mark.parametrize("size", [5, LARGE])
    def test_forgotten(self, store: Store, size: int) -> None:
        body = store.new_body()
        body.write(b"x" * size)
        ref = body.finish()
        body.close()
        with pytest.raises(BodyMissing):
            store.open_body(ref)
        with pytest.raises(StoreError):
            store.add_version(key(), version(), body, Retention(), now=NOW).result(20)

    def test_only_once_and_only_whole(self, store: Store) -> None:
        body = store.new_body()
        with pytest.raises(StoreError):
            store.add_version(key(), version(), body, Retention(), now=NOW).result(20)
        body.finish()
        store.add_version(key(), version(), body, Retention(), now=NOW).result(20)
        with pytest.raises(StoreError):
            store.add_version(key(), version(), body, Retention(), now=NOW).result(20)
        with pytest.raises(StoreError):
            body.write(b"more")

    def test_larger_than_the_store(self, store: Store) -> None:
        body = store.new_body()
        with pytest.raises(StoreError, match="max_size"):
            for _ in range(11):
                body.write(b"x" * 100_000)
        body.abort()

    def test_unknown(self, store: Store) -> None:
        for digest in ("0" * 64, "", "nothex"):
            with pytest.raises(BodyMissing):
                store.open_body(BodyRef(digest, 3))


def test_closing_twice_and_writing_afterwards(store: Store) -> None:
    put(store, b"x")
    store.close()
    store.close()
    with pytest.raises(StoreError):
        store.touch(["id-page"], NOW).result(20)


def test_the_secret_has_256_bits(store: Store) -> None:
    assert len(store.secret) == 32
