"""The features of a folder of JPEGs: `save_features`, whole, beside the network alone.

- `forward alone` is the bound: the network until the layer, on batches that lie in the device's memory already. Nothing
  is read, decoded, moved, kept or written. As many batches as the folder has, of a few that are taken in turn.
- `plain loop` does the same work as `save_features` in one process, one thing after the other: open, prepare, forward.
- `save_features` is all of it: listing the folder, hashing the weights, starting the workers, and the table on disk.

On a GPU the workers decode while it computes. On a CPU they need the cores that the network computes on, so that what
decoding takes cannot be hidden; what makes up for it there is that `save_features` hands the network images whose
channels lie side by side. `forward alone, channels last` is the network on such images.
"""

import itertools
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

import cnnzoo
from benchmarks.harness import Bench, benchmark, require_same
from benchmarks.peers import network
from benchmarks.steps import settle

LAYERS = {"vgg19": "fc7", "resnet50": "avgpool"}
SIZE = (375, 500)
"""Height and width of the images, about the mean of ImageNet's."""

DISTINCT = 256
"""Images that are drawn; the folder repeats them. Batches in memory: as many as have these images."""


@benchmark(repeats=5, min_time=None, device=True)
@click.option("--model", "name", type=click.Choice(list(LAYERS)), default="resnet50", show_default=True)
@click.option("--images", "count", type=click.IntRange(min=1), help="By default 128 on a CPU, 16384 on a GPU.")
@click.option("--batch", type=click.IntRange(min=1), default=64, show_default=True, help="Images at a time.")
@click.option("--workers", type=click.IntRange(min=0), help="Processes that decode; by default what is the default.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True)
def features(bench: Bench, name: str, count: int | None, batch: int, workers: int | None, dtype: str) -> None:
    """Extracting the features of a folder."""
    count = count or {"cpu": 128, "cuda": 16384}[bench.device]
    model, prepare = network(name, seed=0), cnnzoo.list_checkpoints(name)[0].transforms()
    with TemporaryDirectory() as place:
        folder, table = Path(place, "images"), Path(place, "table.safetensors")
        draw(folder, count)
        images = torch.stack([prepare(Image.open(path)) for path in sorted(folder.iterdir())[:DISTINCT]])
        settle(model, images[:8])
        model.eval().to(bench.device, getattr(torch, dtype))
        extractor = cnnzoo.features(model, LAYERS[name])
        in_memory = images.to(bench.device, getattr(torch, dtype)).split(batch)
        aligned = tuple(one.contiguous(memory_format=torch.channels_last) for one in in_memory)

        def loop() -> Tensor:
            return plain_loop(extractor, folder, prepare, in_memory[0], batch)

        def whole() -> Tensor:
            table.unlink(missing_ok=True)
            options = {"batch_size": batch, "workers": workers, "transforms": prepare, "progress": False}
            return cnnzoo.save_features(model, folder, table, LAYERS[name], **options).features

        # Batches of other sizes, where parts end, are rounded in another way.
        require_same({"plain loop": loop().float(), "save_features": whole().float()}, 0.01, "features")
        calls = {
            "forward alone": partial(forward, extractor, in_memory, -(-count // batch)),
            "forward alone, channels last": partial(forward, extractor, aligned, -(-count // batch)),
            "plain loop": loop,
            "save_features": whole,
        }
        case = f"{name}, {count} images, batch {batch}, {dtype}, {bench.device}"
        one = bench.compare(case, "save_features", calls)
    for candidate, taken in one.samples.items():
        click.echo(f"{candidate}: {count / taken.median:.1f} images a second")
    bench.ratio(one, "forward alone", at_least=0.9)


def draw(folder: Path, count: int) -> None:
    """JPEGs of soft spots with some noise, which take about as many bytes as photographs do."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    drawn: list[bytes] = []
    for number in range(count):
        path = folder / f"{number:06}.jpg"
        if len(drawn) < DISTINCT:
            spots = torch.rand(1, 3, 12, 16, generator=generator)
            pixels = functional.interpolate(spots, SIZE, mode="bicubic")[0] * 255
            pixels = (pixels + 8 * torch.randn(pixels.shape, generator=generator)).clamp(0, 255).byte()
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path, quality=90)
            drawn.append(path.read_bytes())
        else:
            path.write_bytes(drawn[number % DISTINCT])


@torch.inference_mode()
def forward(extractor: nn.Module, batches: tuple[Tensor, ...], count: int) -> None:
    """The network on so many batches, of those in memory."""
    for images in itertools.islice(itertools.cycle(batches), count):
        extractor(images)


@torch.inference_mode()
def plain_loop(extractor: nn.Module, folder: Path, prepare: nn.Module, like: Tensor, size: int) -> Tensor:
    """What one writes without a library."""
    paths = sorted(folder.iterdir())
    rows = []
    for start in range(0, len(paths), size):
        images = torch.stack([prepare(Image.open(path)) for path in paths[start : start + size]])
        rows.append(extractor(images.to(like)).cpu())
    return torch.cat(rows)
