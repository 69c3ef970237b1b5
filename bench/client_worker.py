"""One client process of bench/client.py: `python client_worker.py new|old API_URL URL SECONDS [MOST]`.

Waits for a line on stdin, orders the same URL again and again, and prints how long each order took, from
create_request to the last byte, in ms. Runs in the old package's environment, too: nothing but its client.
"""

import json
import sys
import time


def client_class(which):
    if which == "old":
        from buffy.buffypyclient import BuffyPyClient
    else:
        from buffy_client import BuffyPyClient
    return BuffyPyClient


def main():
    which, api, url, seconds, *most = sys.argv[1:]
    client = client_class(which)(url=api, local_download_fallback=False)
    left, times = int(most[0]) if most else 1_000_000, []
    order(client, url)
    print("ready", flush=True)
    sys.stdin.readline()
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end and len(times) < left:
        began = time.monotonic()
        size = order(client, url)
        times.append((time.monotonic() - began) * 1000)
        assert size == 1024, size
    print(json.dumps(times))


def order(client, url):
    request = client.create_request(url)
    return sum(len(chunk) for chunk in request.download_response_content())


if __name__ == "__main__":
    main()
