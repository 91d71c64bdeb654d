"""`python -m bloomery` is the console script."""

from bloomery.cli import main

if __name__ == "__main__":
    main()
