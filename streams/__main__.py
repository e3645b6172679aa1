"""`python -m streams` is the `tidemark` command."""

from streams.cli.main import main

if __name__ == "__main__":
    main()
