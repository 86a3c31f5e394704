"""A Docker Engine in Python: the Engine API in front, a runtime core of our own behind."""

__version__ = "0.1.0"
