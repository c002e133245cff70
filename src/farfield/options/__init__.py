"""Parse options and configs, and explain mistakes in them."""
