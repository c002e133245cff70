"""HTML and Markdown reports, and the Jinja2 templates behind them."""
