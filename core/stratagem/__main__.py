"""Let ``python -m stratagem`` be the command line."""

from stratagem.cli import main

if __name__ == "__main__":
    main()
