"""Networks and the one file format that holds them."""

from kdq.models.file import load

__all__ = ["load"]
