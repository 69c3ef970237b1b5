"""What plugins bring to the API: strategies with their parameters, routes, counts of failures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buffy_client import BuffyPyClient, BuffyServerError, ReCachingStrategy, RequestCacheConfiguration
from buffy_proxy.config import Credentials
from buffy_proxy.plugins import PluginOptions, Plugins, load_plugins
from tests.control_api.kit import URL, Api

Make = Callable[..., Api]
SOURCE = '''
from dataclasses import dataclass
from buffy_proxy import BaseStrategy, hookimpl

@dataclass(frozen=True)
class Tides(BaseStrategy):
    """Fresh until the next high tide."""
    strategy_name = "tides"
    harbour: str = "Cuxhaven"
    lag: float = 0.5
    days: tuple = ()
    def __post_init__(self):
        if self.harbour == "nowhere":
            raise ValueError("harbour: there is no 'nowhere'")
    def fresh_until(self, version, now, url):
        return now + 3600

@hookimpl
def register_strategies():
    return [Tides]

@hookimpl
def register_routes(router):
    @router.get("/height", summary="How high it is")
    def height() -> float:
        return 2.5

    @router.get("/fails")
    def fails() -> float:
        return 1 / 0
'''
BROKEN = "from buffy_proxy import hookimpl\n@hookimpl\ndef register_routes(router):\n    router.nonsense()\n"


@pytest.fixture
def plugins(tmp_path: Path) -> Plugins:
    files = []
    for name, source in (("sea", SOURCE), ("broken", BROKEN)):
        files.append(tmp_path / f"{name}.py")
        files[-1].write_text(source)
    return load_plugins(PluginOptions(files=tuple(files)))


@pytest.fixture
def api(make: Make, plugins: Plugins) -> Api:
    return make(plugins=plugins)


def order(strategy: Any) -> dict[str, Any]:
    return {"url": URL, "cache_configuration": {"recaching_strategy": strategy}}


def test_a_strategy_of_a_plugin_is_accepted_and_given_back(api: Api) -> None:
    made = api.put("/request/", order({"strategy_name": "tides", "lag": 1}), 201)
    whole = {"strategy_name": "tides", "harbour": "Cuxhaven", "lag": 1.0, "days": []}
    assert made["cache_configuration"]["recaching_strategy"] == whole
    assert made["cache_configuration"]["strategy_in_force"] == whole
    path = f"/request/{made['id']}/cache-config"
    changed = api.put(path, {"recaching_strategy": {"strategy_name": "tides", "days": [1, 2]}})
    assert changed["recaching_strategy"]["days"] == [1, 2]
    assert api.get(path) == changed


REFUSED = [
    ({"strategy_name": "tide"}, "'tide' is unknown; allowed are age, cron, http, never, tides, when_"),
    (
        {"strategy_name": "tides", "harbor": "x"},
        "parameter 'harbor' is unknown; allowed are: days, harbour, lag",
    ),
    ({"strategy_name": "tides", "harbour": 3}, "tides.harbour: 3 is not of type str"),
    ({"strategy_name": "tides", "harbour": "nowhere"}, "tides: harbour: there is no 'nowhere'"),
    ({"strategy_name": "age", "seconds": "x"}, "seconds"),
    ({}, "strategy_name"),
    ({"strategy_name": 3}, "strategy_name"),
    ("tides", "recaching_strategy"),
]


@pytest.mark.parametrize(("strategy", "message"), REFUSED)
def test_what_is_refused(api: Api, strategy: Any, message: str) -> None:
    answer = api.http.put("/v1/request/", json=order(strategy))
    assert answer.status_code == 422
    assert message in answer.json()["detail"] + str(answer.json().get("errors"))


def test_names_and_parameters_stand_in_the_openapi_page(api: Api) -> None:
    document = api.http.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    tides = schemas["tides"]
    assert tides["description"] == "Fresh until the next high tide."
    assert tides["properties"]["strategy_name"]["const"] == "tides"
    assert tides["properties"]["harbour"]["default"] == "Cuxhaven"
    assert tides["properties"]["lag"]["type"] == "number"
    for name in ("CacheConfigurationIn", "RequestCacheConfiguration"):
        field = schemas[name]["properties"]["recaching_strategy"]
        assert {"$ref": "#/components/schemas/tides"} in field["oneOf"]
        assert field["discriminator"]["mapping"]["tides"] == "#/components/schemas/tides"
        assert field["discriminator"]["mapping"]["age"] == "#/components/schemas/Age"
    assert "PluginStrategy" not in str(document)


def test_without_plugins_the_page_knows_the_six(make: Make) -> None:
    field = make().http.get("/openapi.json").json()["components"]["schemas"]["CacheConfigurationIn"]
    mapping = field["properties"]["recaching_strategy"]["discriminator"]["mapping"]
    assert set(mapping) == {"never", "age", "cron", "when_requested", "when_remote_changed", "http"}


def test_a_strategy_whose_plugin_is_gone_is_still_shown(api: Api, make: Make) -> None:
    made = api.put("/request/", order({"strategy_name": "tides"}), 201)
    later = make()
    shown = later.get(f"/request/{made['id']}")["cache_configuration"]
    assert shown["recaching_strategy"]["strategy_name"] == "tides"
    assert shown["strategy_in_force"]["strategy_name"] == "http"


def test_routes_of_plugins(api: Api, plugins: Plugins) -> None:
    assert api.http.get("/plugins/sea/height").json() == 2.5
    assert "/plugins/sea/height" in api.http.get("/openapi.json").json()["paths"]
    failed = api.http.get("/plugins/sea/fails")
    assert failed.status_code == 500 and failed.headers["content-type"] == "application/problem+json"
    assert "The plugin sea failed" in failed.json()["detail"] and plugins.failures.total == 2
    assert api.http.get("/health").status_code == 200
    assert api.http.get("/plugins/sea/height", headers={"Host": "evil.test"}).status_code == 421


def test_routes_of_plugins_ask_for_the_same_credentials(make: Make, plugins: Plugins) -> None:
    api = make(plugins=plugins, api_credentials=Credentials("me", "secret"))
    assert api.http.get("/plugins/sea/height").status_code == 401
    assert api.http.get("/plugins/sea/height", auth=("me", "secret")).json() == 2.5


def test_a_plugin_without_usable_routes_is_counted_and_skipped(api: Api, plugins: Plugins) -> None:
    assert plugins.failures.total == 1
    assert api.http.get("/plugins/broken/x").status_code == 404


def test_failures_are_a_metric(api: Api) -> None:
    api.store.count("plugin_failures", {"sea.cache_key": 3, "sea.strategy tides": 1}).result()
    text = api.http.get("/metrics").text
    assert 'buffy_plugin_failures_total{hook="cache_key",plugin="sea"} 3.0' in text
    assert 'buffy_plugin_failures_total{hook="strategy tides",plugin="sea"} 1.0' in text


# -- the client ---------------------------------------------------------------------------------------------


def test_the_client_names_a_strategy_of_a_plugin(api: Api) -> None:
    with BuffyPyClient(api.base) as client:
        tides = ReCachingStrategy.custom("tides", harbour="Husum")
        request = client.create_request(URL, cache_configuration=RequestCacheConfiguration(tides))
        kept = request.cache_configuration
        assert kept is not None
        assert kept.recaching_strategy == ReCachingStrategy.custom("tides", harbour="Husum", lag=0.5, days=[])
        wrong = RequestCacheConfiguration(ReCachingStrategy.custom("tides", harbour="nowhere"))
        with pytest.raises(BuffyServerError, match="there is no 'nowhere'"):
            client.create_request(URL, cache_configuration=wrong)
