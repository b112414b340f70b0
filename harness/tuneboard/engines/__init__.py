"""Engines: one file each; all of them speak ``protocol.Engine``."""
