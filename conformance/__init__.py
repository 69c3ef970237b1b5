"""The public HTTP cache tests (npm: http-cache-tests), run against the real server: `make conformance`.

suite.py    fetches the package, runs its origin and its client
scoring.py  what its results mean: verdicts, dependencies, counts
ways.py     the four ways through Buffy
run.py      runs them and compares with results.txt, which is kept in the repository
known.txt   tests of this edition of the package that contradict today's RFC text
"""
