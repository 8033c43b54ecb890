"""Who may ask, how often, and over what connection. Knows no route and no model."""
