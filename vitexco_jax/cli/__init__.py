"""The command line: modes, flags, help, and messages."""
