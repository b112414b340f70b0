"""tuneboard tells what a fine-tune changed."""

__version__ = "0.1.0"
