"""The OpenAPI document against the running application: schemathesis makes requests from it, valid and
invalid ones, and checks every answer against what the document promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup

from tests.control_api.kit import Api, open_store

EXAMPLES = 25
EFFORT = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    directory = tmp_path_factory.mktemp("schemathesis")
    store = open_store(directory)
    running = Api(store, directory)
    yield running
    running.close()
    store.close()


@pytest.fixture(scope="module")
def known(api: Api) -> dict[str, str]:
    """Path parameters of what is there; else every path would end in 404."""
    made = api.order(cache_configuration={"recaching_strategy": {"strategy_name": "when_requested"}})
    api.finish(made["id"], b"one")
    api.order()
    done = api.finish(made["id"], b"two")
    return {"request_id": made["id"], "version": done.name, "tag": "tagged"}


@pytest.mark.parametrize("mode", GenerationMode)
def test_the_application_does_what_the_document_says(
    api: Api, known: dict[str, str], mode: GenerationMode
) -> None:
    document = schemathesis.openapi.from_url(f"{api.base}/openapi.json")
    operations: list[Any] = [result.ok() for result in document.get_all_operations()]  # type: ignore[union-attr]
    assert len(operations) >= 16
    failures = [message for operation in operations if (message := failure(operation, mode, known))]
    assert not failures, "\n\n".join(failures)


def meaningful(body: dict[str, Any]) -> dict[str, Any]:
    """A valid body with what JSON Schema cannot say: URLs, field names and cron expressions that are some."""
    if "url" in body:
        body = {**body, "url": f"http://origin.test/{quote(body['url'], errors='replace')}"}
    if fields := body.get("http_header_fields"):
        body["http_header_fields"] = {f"X-{quote(name, safe='')}": 1.5 for name in fields}
    for config in (body, body.get("cache_configuration")):
        strategy = config.get("recaching_strategy") if isinstance(config, dict) else None
        if strategy and "cron" in strategy:
            strategy["cron"] = "*/5 * * * *"
    return body


def failure(operation: Any, mode: GenerationMode, known: dict[str, str]) -> str:
    """What schemathesis found; "" for nothing. Half of the requests are for what exists."""

    @EFFORT
    @given(operation.as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        made = case.path_parameters
        if made and sum(map(ord, str(made))) % 2:
            case.path_parameters = {name: known.get(name, value) for name, value in made.items()}
        if mode is GenerationMode.POSITIVE and isinstance(case.body, dict):
            case.body = meaningful(case.body)
        case.call_and_validate()

    try:
        run()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # any text is a valid id, so there is nothing to get wrong
    except (Exception, FailureGroup) as error:
        return f"{operation.label}: {type(error).__name__}: {error}"
    return ""
