"""``python -m octoscale.cli``."""

from octoscale.cli.entry import main

if __name__ == "__main__":
    main()
