"""bb-release: deploys Django sites on the host that serves them."""

import gc

__version__ = "0.1.0"

# What is imported stays. To look for garbage in it as often as usual is a twentieth of what a timer's tick costs.
gc.set_threshold(50_000)
