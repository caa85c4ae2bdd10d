"""`python -m counterscan` is the command; so does torchrun start it."""

from counterscan.cli import main

if __name__ == "__main__":
    main()
