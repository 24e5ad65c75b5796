"""Runs over files: everything checked first, then classified, written, and taken up again."""
