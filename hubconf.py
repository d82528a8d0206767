"""Entry points for `torch.hub.load("owner/cnnzoo", "resnet50", pretrained=True)`: one for each network."""

from functools import partial

import cnnzoo

dependencies = ["torch", "torchvision", "safetensors", "huggingface_hub"]


def _entry(name: str, *, pretrained: bool = False, **options):
    """A network: fresh, or with its published weights, which are downloaded."""
    known = cnnzoo.spec(name).name
    return cnnzoo.load_pretrained(known, hub=True, **options) if pretrained else cnnzoo.create(known, **options)


for _name in cnnzoo.list_models():
    globals()[_name] = partial(_entry, _name)
    globals()[_name].__doc__ = cnnzoo.spec(_name).build.__doc__
