"""`python -m nexus` is `nexus`.  Nothing else belongs here."""

from nexus.cli import main

main()
