"""What tests share: a scripted origin, a client on raw sockets, the real server in a subprocess."""
