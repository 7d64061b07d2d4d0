"""Symbols, lines and call frames of ELF files, compared with pyelftools where the files are good."""
