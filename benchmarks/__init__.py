"""One script a set of figures that the README quotes. A benchmark reports; it does not fail."""
