"""The version of the package, in a module that imports nothing: weights record it, and pyproject.toml reads it."""

__version__ = "1.3.0"
