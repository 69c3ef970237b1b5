"""The proxy door: the only place that imports mitmproxy.

front.py        the transport in front: HTTP/1.1, CONNECT and TLS; answers what is simple
hello.py        what a TLS client says first         leaves.py     certificates for hosts
encrypted.py    TLS over a transport that is there   handover.py   gives a connection to mitmproxy
door.py         mitmproxy's handler of a connection; runs our own layer hooks without the addon chain
next_layer.py   which protocol follows: TLS, HTTP, a raw tunnel
layers.py       own HTTP layers: they answer from the cache instead of opening a server connection
http1.py        mitmproxy's HTTP/1 without its traps, for what it forwards itself
exchange.py     one request between a layer (generators) and the cache (coroutines)
interceptor.py  who may use the proxy, what is cached, and the edits to what mitmproxy forwards itself
tls.py          our certificate authority, and hosts whose clients reject it
master.py       a mitmproxy master with just the addons that are needed
"""
