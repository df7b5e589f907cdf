"""The version of the package, on the ground floor: the weights record it, and pyproject.toml reads it from here."""

__version__ = "1.1.0"
