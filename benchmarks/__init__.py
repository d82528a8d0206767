"""What cnnzoo claims about speed and accuracy, measured: `python -m benchmarks --help`."""
