"""The version of benexp: one line, so that the build and the caches read the same one."""

__version__ = "0.1.0"
