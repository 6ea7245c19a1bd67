"""`python -m llmtwin` is the command line."""

from llmtwin.cli import main

main()
