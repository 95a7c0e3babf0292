"""bb-release: deploys Django sites on the host that serves them."""

__version__ = "0.1.0"
