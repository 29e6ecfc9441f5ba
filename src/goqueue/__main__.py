"""`python -m goqueue` is `goqueue`."""

from goqueue.wiring import main

if __name__ == "__main__":
    main()
