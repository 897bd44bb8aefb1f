"""Data sets: every file that declares a class ``DataSets`` holds some, see :mod:`kdq.data.catalog`."""
