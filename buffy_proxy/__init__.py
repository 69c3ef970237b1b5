"""Buffy: a versioned cache between a program and the web."""

__version__ = "0.1.0"
