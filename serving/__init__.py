"""From approved bundle to answer: the bundle store, the endpoint, its client, a demo."""

__version__ = "0.1.0"
