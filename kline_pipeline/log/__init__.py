"""Log lines: their looks and places (lines, rotation, daily), what they are about (about), what they hide (redaction).

Every module logs through `logging.getLogger(__name__)`, its fields in `extra`; only commands and defs/ configure.
"""
