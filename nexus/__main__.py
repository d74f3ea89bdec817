"""`python -m nexus` is `nexus`.  Nothing else belongs here."""

from nexus.cli import main

if __name__ == "__main__":
    main()
