"""Networks: every file that declares a class ``Architectures`` is a family of them, see :mod:`kdq.models.registry`."""
