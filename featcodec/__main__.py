"""`python -m featcodec` is the `featcodec` program."""

from featcodec.cli.main import main

main()
