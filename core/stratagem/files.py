"""Modules that were loaded from a file by its path: on another machine nobody finds their names."""

__all__ = ["loaded_from_files"]

loaded_from_files: set[str] = set()
"""Their names. What they define travels by value to workers that may be elsewhere."""
