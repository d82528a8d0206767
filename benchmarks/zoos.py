"""Every network of torchvision and many of timm: layers, parameters and multiply-adds as a real forward has them.

The forward runs on the meta device, with a hook on every layer and torch's own counter of operations. Beside
`cnnzoo.summary` stand torchinfo and fvcore, with the multiply-adds that they find and the time that each takes. fvcore
follows a trace, which needs real tensors: it runs on the CPU, on the networks of up to 12 million parameters. On those,
too, a receptive field is compared with gradients: that of the last convolution whose window is at most half the image.
"""

import copy
import inspect
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import cnnzoo
from cnnzoo.errors import CnnzooError
from cnnzoo.support.text import first_line

PAGE = Path(__file__).parent.parent / "docs" / "zoos.md"
SHAPES = {
    "inception_v3": [(3, 299, 299)],
    "raft_large": [(3, 128, 128)] * 2,
    "raft_small": [(3, 128, 128)] * 2,
    **{name: [(3, 16, 112, 112)] for name in ("r3d_18", "mc3_18", "r2plus1d_18")},
    **{name: [(3, 16, 224, 224)] for name in ("s3d", "mvit_v1_b", "mvit_v2_s", "swin3d_t", "swin3d_s", "swin3d_b")},
}
_TIMM = """
bat_resnext26ts beit_base_patch16_224 botnet26t_256 caformer_s18 cait_xxs24_224 coat_tiny coatnet_nano_rw_224
convformer_s18 convit_tiny convmixer_768_32 convnext_atto convnextv2_atto crossvit_tiny_240 cs3darknet_m cspdarknet53
cspresnet50 darknet53 davit_tiny deit3_small_patch16_224 deit_tiny_patch16_224 densenet121 dla34 dm_nfnet_f0 dpn48b
dpn68 eca_botnext26ts_256 ecaresnet26t edgenext_xx_small efficientformer_l1 efficientformerv2_s0 efficientnet_b1
efficientnet_es efficientvit_b0 efficientvit_m0 ese_vovnet19b_dw eva02_tiny_patch14_224 fastvit_t8 fbnetc_100
flexivit_small focalnet_tiny_srf gc_efficientnetv2_rw_t gcvit_xxtiny gernet_s ghostnet_100 gmixer_24_224 gmlp_s16_224
halonet26t haloregnetz_b hardcorenas_a hgnet_tiny hgnetv2_b0 hiera_tiny_224 hrnet_w18 hrnet_w18_small
inception_next_atto inception_resnet_v2 inception_v3 inception_v4 lambda_resnet26t lamhalobotnet50ts_256 lcnet_050
legacy_senet154 levit_128s mambaout_femto maxvit_nano_rw_256 maxxvit_rmlp_nano_rw_256 mixer_s32_224 mixnet_s
mnasnet_small mobilenet_edgetpu_v2_xs mobilenetv2_050 mobilenetv3_large_100 mobilenetv3_small_050
mobilenetv4_conv_small mobilenetv4_hybrid_medium mobileone_s0 mobilevit_s mobilevitv2_050 mvitv2_tiny nasnetalarge
nest_tiny nextvit_small nf_regnet_b0 nf_resnet50 pit_ti_224 pnasnet5large poolformer_s12 pvt_v2_b0 rdnet_tiny
regnetx_002 regnety_002 regnetz_b16 repghostnet_050 repvgg_a0 repvgg_b0 repvit_m0_9 res2net50_26w_4s res2next50
resmlp_12_224 resnest14d resnet18 resnet26d resnet50_clip resnetaa34d resnetblur18 resnetrs50 resnetv2_18 resnetv2_50
resnetv2_50x1_bit resnext50_32x4d rexnet_100 samvit_base_patch16_224 sehalonet33ts selecsls42 semnasnet_075
sequencer2d_s seresnet18 seresnext26d_32x4d seresnext50_32x4d shvit_s1 skresnet18 spnasnet_100 starnet_s1
swiftformer_xs swin_tiny_patch4_window7_224 swinv2_cr_tiny_ns_224 swinv2_tiny_window8_256 tf_efficientnet_lite0
tf_efficientnetv2_b0 tiny_vit_5m_224 tinynet_a tnt_s_patch16_224 twins_svt_small vgg11 vgg16_bn visformer_tiny
vit_base_patch16_rope_reg1_gap_256 vit_base_patch16_siglip_224 vit_pwee_patch16_reg1_gap_256
vit_relpos_small_patch16_224 vit_srelpos_small_patch16_224 vit_tiny_patch16_224 vit_tiny_r_s16_p8_224
vitamin_small_224 volo_d1_224 vovnet39a wide_resnet50_2 xception41 xception65 xcit_nano_12_p16_224
"""
TIMM = _TIMM.split()
FVCORE = 12_000_000

Shapes = list[tuple[int, ...]]


@dataclass(frozen=True)
class Verdict:
    """What became of one network.

    Attributes:
        kind: `"exact"`, `"exact with a note"`, `"refused"` or `"wrong"`.
        note: what the probe warned of, why it refused, or what is wrong.
        macs: what it found.
        seconds: that it took.
    """

    kind: str
    note: str
    macs: int
    seconds: float


@click.command("zoos")
@click.option("--only", default="", help="Only networks with this in their names.")
@click.option("--others/--no-others", default=True, help="torchinfo and fvcore beside it.")
def zoos(only: str, others: bool) -> None:
    """Compare `summary` with a real forward on every network of torchvision and on many of timm's."""
    logging.disable(logging.ERROR)
    cnnzoo.summary("lenet5")  # imports what is imported when first used
    lines = []
    for zoo, name, build, shapes in networks():
        if only not in name:
            continue
        model = build()
        found, expected = judged(model, shapes)
        cells = [f"{zoo}: {name}", found.kind, f"{found.macs / 1e9:.3f}", f"{1000 * found.seconds:.0f}"]
        if others:
            for measure in (by_torchinfo, by_fvcore):
                cells += beside(measure, model, shapes, expected)
        cells.append(found.note)
        field = field_of(model, shapes)
        cells.insert(4, field)
        if field.endswith("wrong"):
            cells[1] = "wrong"
        lines.append(cells)
        click.echo(" | ".join(cells))
    kinds = [line[1] for line in lines]
    compared = sum(line[4].endswith("px") for line in lines)
    counts = {kind: kinds.count(kind) for kind in ("exact", "exact with a note", "refused", "wrong")}
    click.echo(f"{len(lines)} networks: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()))
    click.echo(f"{compared} receptive fields are those of gradients")
    if not only and others:
        write(lines, counts, compared)
    if counts["wrong"]:
        raise SystemExit(1)


def networks() -> Iterator[tuple[str, str, Callable[[], nn.Module], Shapes]]:
    """Zoo, name, constructor on the meta device and input shapes of every network."""
    for name in torchvision.models.list_models():
        if not name.startswith("quantized"):
            yield "torchvision", name, partial(of_torchvision, name), SHAPES.get(name, [(3, 224, 224)])
    import timm

    for name in TIMM:
        made_for: Any = timm.get_pretrained_cfg(name, allow_unregistered=False)
        yield "timm", name, partial(of_timm, name), [tuple(made_for.input_size)]


def of_torchvision(name: str) -> nn.Module:
    """One of torchvision's networks on the meta device."""
    takes = inspect.signature(torchvision.models.get_model_builder(name)).parameters
    options: dict[str, Any] = {"weights": None}
    if "weights_backbone" in takes:
        options["weights_backbone"] = None
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    with torch.device("cpu" if name.startswith("regnet") else "meta"):  # its widths are computed with tensors
        return torchvision.models.get_model(name, **options).to("meta").eval()


def of_timm(name: str) -> nn.Module:
    """One of timm's networks on the meta device."""
    import timm

    try:
        with torch.device("meta"):
            return timm.create_model(name, pretrained=False).eval()
    except (RuntimeError, NotImplementedError):  # its constructor computes with tensors
        return timm.create_model(name, pretrained=False).to("meta").eval()


def judged(model: nn.Module, shapes: Shapes) -> tuple[Verdict, int | None]:
    """What `summary` says, compared with a forward; and the multiply-adds of the forward, where it can run."""
    started = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            table = cnnzoo.summary(model, *shapes)
        except CnnzooError as error:
            return Verdict("refused", first_line(error), 0, time.perf_counter() - started), None
    seconds = time.perf_counter() - started
    notes = [str(one.message).partition(": ")[2] for one in caught if issubclass(one.category, cnnzoo.ProbeWarning)]
    macs = table.macs + table.products
    wrong = []
    params = sum(p.numel() for p in model.parameters())
    if not params == table.params == sum(layer.params for layer in table.layers):
        wrong.append("parameters")
    if macs != sum(layer.macs + layer.products for layer in table.layers):
        wrong.append("rows do not add up")
    expected = None
    try:
        layers, expected = by_forward(model, shapes)
    except Exception as error:  # as detectors do on the meta device
        notes.append(f"no forward on the meta device to compare with ({first_line(error)[:60]})")
    else:
        names = {name for name, *_ in layers}
        found = [(one.name, one.input_shape, one.output_shape) for one in table.layers if one.ran and one.name in names]
        if found != layers:
            wrong.append("shapes")
        if macs != expected:
            wrong.append(f"multiply-adds: {macs:,} for {expected:,}")
    if any(not layer.receptive_field.exact for layer in table.layers):
        notes.append("some receptive fields are upper bounds")
    kind = "wrong" if wrong else "exact with a note" if notes else "exact"
    return Verdict(kind, "; ".join(wrong or notes), macs, seconds), expected


def field_of(model: nn.Module, shapes: Shapes) -> str:
    """A receptive field that gradients confirm; that and "wrong" where they do not, nothing where there is none."""
    if len(shapes) > 1 or len(shapes[0]) != 3 or sum(p.numel() for p in model.parameters()) > FVCORE:
        return ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            layers = cnnzoo.summary(model, *shapes).layers
        except CnnzooError:
            return ""
    modules = dict(model.named_modules())
    sliding = [
        layer
        for layer in layers
        if isinstance(modules.get(layer.name), nn.Conv2d) and layer.ran and len(layer.output_shape) == 3
        if layer.receptive_field.exact and 1 < max(layer.receptive_field.size) <= shapes[0][1] // 2
    ]
    if not sliding:
        return ""
    name, size = sliding[-1].name, sliding[-1].receptive_field.size
    seen = by_gradient(copy.deepcopy(model), name, shapes[0])
    said = f"{name}: {size[0]}x{size[1]} px"
    return said if seen == size else f"{said}, gradients {seen[0]}x{seen[1]}: wrong"


def by_gradient(model: nn.Module, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Height and width of what the middle unit of a layer sees: where its gradient is not zero.

    The weights are positive, and no two alike, so that nothing cancels; maximum poolings become averages, through which
    every pixel of the window has a gradient.
    """
    torch.manual_seed(0)
    model.to_empty(device="cpu").double().eval().requires_grad_(False)
    for module in model.modules():
        for own, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            if not tensor.is_floating_point() or own == "bias" or "mean" in own:
                tensor.zero_()
            elif "var" in own:
                tensor.fill_(1)
            else:
                tensor.uniform_(0.5, 1.5).div_(tensor[0].numel() if tensor.ndim > 1 else 1)
    for place, module in list(model.named_modules()):
        if type(module) is nn.MaxPool2d:  # timm's own pad in `forward`
            pool = nn.AvgPool2d(module.kernel_size, module.stride, module.padding, module.ceil_mode)
            model.set_submodule(place, pool)
    seen: list[Tensor] = []

    def note(module: nn.Module, args: Any, output: Tensor) -> None:
        seen.append(output)

    model.get_submodule(name).register_forward_hook(note)
    images = torch.rand(1, *shape, dtype=torch.float64, requires_grad=True)
    model(images)
    middle = (0, slice(None), seen[0].shape[2] // 2, seen[0].shape[3] // 2)
    (gradient,) = torch.autograd.grad(seen[0][middle].sum(), images)
    pixels = (gradient[0] != 0).any(0).nonzero()
    return tuple((pixels.amax(0) - pixels.amin(0) + 1).tolist())


def by_forward(model: nn.Module, shapes: Shapes) -> tuple[list[tuple[str, tuple[int, ...], tuple[int, ...]]], int]:
    """Name, input and output of every leaf, and of what has parameters of its own; and the multiply-adds of all."""
    names = {module: name for name, module in model.named_modules()}
    seen = []

    def note(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        given, made = first_tensor((args, kwargs)), first_tensor(output)
        if made is not None:
            seen.append((names[module], () if given is None else tuple(given.shape[1:]), tuple(made.shape[1:])))

    listed = [module for module in names if not module._modules or module._parameters]
    hooks = [module.register_forward_hook(note, with_kwargs=True) for module in listed]
    model.requires_grad_(False)  # the counter stumbles over some views otherwise
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            model(*(torch.zeros(1, *shape, device="meta") for shape in shapes))
    finally:
        for hook in hooks:
            hook.remove()
    return seen, counter.get_total_flops() // 2


def first_tensor(value: Any) -> Tensor | None:
    """The first tensor in an argument or result."""
    if isinstance(value, Tensor):
        return value
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return next((one for one in map(first_tensor, inside) if one is not None), None)


def beside(
    measure: Callable[[nn.Module, Shapes], int | None], model: nn.Module, shapes: Shapes, expected: int | None
) -> list[str]:
    """How far another tool's multiply-adds are from the forward's, and how long it took."""
    started = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            macs = measure(model, shapes)
    except Exception as error:
        return [type(error).__name__, ""]
    if macs is None:
        return ["", ""]
    far = f"{macs / expected - 1:+.1%}" if expected else f"{macs / 1e9:.3f} G"
    return [far, f"{1000 * (time.perf_counter() - started):.0f}"]


def by_torchinfo(model: nn.Module, shapes: Shapes) -> int:
    """Multiply-adds as torchinfo counts them."""
    import torchinfo

    sizes = [(1, *shape) for shape in shapes]
    return torchinfo.summary(model, input_size=sizes, device="meta", verbose=0).total_mult_adds


def by_fvcore(model: nn.Module, shapes: Shapes) -> int | None:
    """Multiply-adds of convolutions, linear layers and products of matrices as fvcore counts them."""
    from fvcore.nn import FlopCountAnalysis

    if sum(p.numel() for p in model.parameters()) > FVCORE:
        return None
    model.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.zero_()
        found = FlopCountAnalysis(model, tuple(torch.zeros(1, *shape) for shape in shapes)).by_operator()
    return int(sum(found[kind] for kind in ("conv", "linear", "matmul", "addmm", "bmm", "einsum", "baddbmm")))


HEADER = """# Other libraries' networks

`python -m benchmarks zoos` writes this page. Each network of torchvision, and {timm} of timm's, runs once on the meta
device with a hook on every layer and torch's counter of operations. **Exact** means that `cnnzoo.summary` says the same
of every layer: its input and output shape, its parameters, and of the network its multiply-adds, to the last one.
With a note, it says itself what it does not know. Refused networks ask for values, of which there are none.

{total}

{compared} receptive fields, one of each network of up to 12 million parameters that has one smaller than half the
image, are those that gradients give.

For torchinfo and fvcore the page shows how far their multiply-adds are from those of the forward, each by its own
convention: torchinfo counts normalisation as well and attention not at all. fvcore needs real tensors and ran on
networks of up to 12 million parameters.

| network | cnnzoo | G multiply-adds | ms | receptive field | torchinfo | ms | fvcore | ms | note |
|---|---|---|---|---|---|---|---|---|---|
"""


def write(lines: list[list[str]], counts: dict[str, int], compared: int) -> None:
    """Write the page."""
    total = f"**{len(lines)} networks: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()) + ".**"
    rows = ("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
    PAGE.write_text(HEADER.format(timm=len(TIMM), total=total, compared=compared) + "".join(rows), "utf-8")
