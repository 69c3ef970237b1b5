"""What one writes first: a mitmproxy addon with a dictionary. `mitmdump -s naive_addon.py`."""

from mitmproxy import http

kept: dict[str, http.Response] = {}


def request(flow: http.HTTPFlow) -> None:
    found = kept.get(flow.request.url)
    if found is not None:
        flow.response = found.copy()


def response(flow: http.HTTPFlow) -> None:
    if flow.response is not None and "no-store" not in flow.response.headers.get("cache-control", ""):
        kept[flow.request.url] = flow.response
