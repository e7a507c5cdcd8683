"""The subcommands of `vm`, one file each; see `vm/__main__.py`."""
