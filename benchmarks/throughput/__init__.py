"""Images per second of every network, in inference and in training, beside torchvision and timm."""

from benchmarks.throughput.command import throughput

__all__ = ["throughput"]
