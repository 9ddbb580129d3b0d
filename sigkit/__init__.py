"""sigkit signs container images, proves who built them, and lets only verified images start."""

__version__ = "0.1.0"
