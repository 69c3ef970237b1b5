"""The Python client of Buffy's control API. It imports nothing from `buffy_proxy`.

client = BuffyPyClient()
request = client.create_request("https://example.org/data.xml.gz")
path = request.download_response_content_to(dir="downloads")
"""

from buffy_client.client import BuffyPyClient
from buffy_client.errors import (
    BuffyCacheEmptyError,
    BuffyDownloadError,
    BuffyError,
    BuffyForcedVersionError,
    BuffyServerError,
    BuffyTimeoutError,
    BuffyUnreachableError,
    BuffyUsageError,
)
from buffy_client.models import ContentAttributes, DownloadStats, Response
from buffy_client.strategies import ReCachingStrategy, RequestCacheConfiguration

__all__ = [
    "BuffyCacheEmptyError",
    "BuffyDownloadError",
    "BuffyError",
    "BuffyForcedVersionError",
    "BuffyPyClient",
    "BuffyServerError",
    "BuffyTimeoutError",
    "BuffyUnreachableError",
    "BuffyUsageError",
    "ContentAttributes",
    "DownloadStats",
    "ReCachingStrategy",
    "RequestCacheConfiguration",
    "Response",
]
