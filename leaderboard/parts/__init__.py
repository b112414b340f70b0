"""What the pages share: selection in the URL, data, tables, charts, words."""
