"""The pages `play` and `convolution`: mkdocs gives them their place in navigation and search, cnnzoo their content.

MkDocs calls the functions named `on_*`.
"""

from mkdocs.structure.files import File

from cnnzoo.play import pages

found: dict[str, bytes] = {}


def on_files(files, config):
    """Add what the two pages load."""
    found.update(pages())
    for path, content in found.items():
        if not path.endswith(".html"):
            files.append(File.generated(config, path, content=content))
    return files


def on_post_page(output, page, config):
    """Put a page of cnnzoo's in place of what its Markdown says for search."""
    return found[page.file.dest_uri].decode() if page.file.dest_uri in found else output
