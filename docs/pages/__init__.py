"""What the pages of the site are made of, besides what is written by hand; docs/hooks.py hands it to MkDocs."""
