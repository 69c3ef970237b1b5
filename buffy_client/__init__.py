"""The Python client of Buffy's control API. It imports nothing from `buffy_proxy`."""
