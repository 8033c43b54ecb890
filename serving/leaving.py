"""How far a serving process has come in leaving."""


class Drain:
    """How far a server has come in leaving."""

    leaving = False
    """It was told to stop and says so, and still takes requests."""
    begun = False
    """It takes no more connections, and ends those that it has."""
