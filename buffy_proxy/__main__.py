"""`python -m buffy_proxy` is `buffy`."""

from buffy_proxy.cli import main

if __name__ == "__main__":
    main()
