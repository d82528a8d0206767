"""The pages `play` and `convolution`, on which a browser runs the bundled networks by itself.

`web/` has the sources, one copy for the documentation and for `cnnzoo play`; there is no build step.
"""

from cnnzoo.play.pages import pages
from cnnzoo.play.server import serve

__all__ = ["pages", "serve"]
