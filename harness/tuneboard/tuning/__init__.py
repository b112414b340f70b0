"""The fine-tuning stage: recipes that make candidates.

``recipe`` reads YAML, ``data`` prepares examples, ``methods`` holds one file per way of fine-tuning, ``training``
trains, ``publishing`` writes the candidate with its provenance, and ``tune`` does all of it in order.
"""
