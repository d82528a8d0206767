"""`python -m cnnzoo`, which is also how torchrun starts it."""

from cnnzoo.cli import main

main(prog_name="cnnzoo")
