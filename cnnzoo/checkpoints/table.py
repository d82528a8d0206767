"""The published checkpoints, as `table.toml` lists them."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from cnnzoo.data.image_files import class_names
from cnnzoo.data.preprocessing import Preprocessing
from cnnzoo.errors import operation
from cnnzoo.support.files import read_table

if TYPE_CHECKING:
    from torchvision.transforms.v2 import Compose

    from cnnzoo.checkpoints.layouts import Layout


@dataclass(frozen=True)
class Checkpoint:
    """A set of weights and what is stated about it: a row of `table.toml`, or a folder's own description.

    Attributes:
        tag: its name among those of the network.
        preprocessing: how the network wants its images.
        source: where the table says that it is: in the package, on the Hugging Face Hub, or on torchvision's server.
        file: its file there; of bundled weights, in `checkpoints/bundled/`.
        repo: of the hub, such as `timm/resnet50.a1_in1k`.
        weights: torchvision's name for it, such as `ResNet50_Weights.IMAGENET1K_V2`.
        layout: whose names the tensors carry.
        options: the constructor's arguments that the weights were made with.
        revision: of the repository, as a commit.
        sha256: of the file; of torchvision's files its first eight digits.
        size_mb: of the file, in units of 2^20 bytes.
        class_set: the name of a list of classes, or the names themselves; see `classes`.
        accuracy: share of the test set, as its publisher measured it; None where there is no such figure.
        recipe: the training recipe that made it, of those of cnnzoo.
        data: what it was trained on, with origin and licence where they are known.
        license: of the weights.
        card: how they were made, and what they are and are not good for.
        made_from: the weights that they were trained from, such as `resnet18.a1_in1k`.

    An empty string stands for what is not stated.
    """

    tag: str
    preprocessing: Preprocessing
    source: Literal["bundled", "hub", "torchvision", ""] = ""
    file: str = ""
    repo: str = ""
    weights: str = ""
    layout: "Layout" = "cnnzoo"
    options: dict[str, Any] = field(default_factory=dict)
    revision: str = ""
    sha256: str = ""
    size_mb: float | None = None
    class_set: str | tuple[str, ...] = ""
    accuracy: float | None = None
    recipe: str = ""
    data: str = ""
    license: str = ""
    card: str = ""
    made_from: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the scores; none where they are not known.

        Those of ImageNet come from torchvision, which takes longer to import than a network to load.
        """
        return class_names(self.class_set) if isinstance(self.class_set, str) else self.class_set

    def as_origin(self, network: str) -> "Checkpoint":
        """What can be said of weights that were made from these: how they want their images, and what they are from.

        Their classes, accuracy and data may be others. A licence holds for what is made from its weights as well.

        Args:
            network: the registered name of the network that these are of.
        """
        own = f"{network}.{self.tag}" if self.source else self.made_from or self.tag
        return Checkpoint("", self.preprocessing, license=self.license, made_from=own)

    def transforms(self) -> "Compose":
        """From a PIL image or uint8 images to the network's input, as torchvision transforms."""
        return self.preprocessing.transforms()


@operation
def list_checkpoints(name: str) -> list[Checkpoint]:
    """List the published weights of a network, the default first.

    Examples:
        >>> import cnnzoo
        >>> [one.tag for one in cnnzoo.list_checkpoints("vgg16")]
        ['tv_in1k', 'imagenet1k_v1', 'imagenet1k_features']
    """
    table = read_table("checkpoints/table.toml")
    return [_checkpoint(row, table["defaults"]) for row in table.get(name, ())]


def _checkpoint(row: dict[str, Any], defaults: dict[str, dict[str, Any]]) -> Checkpoint:
    left_out = next((stated for key, stated in defaults.items() if key in row), {})
    whole = left_out | row
    return Checkpoint(
        preprocessing=Preprocessing(**whole.pop("preprocessing")), class_set=whole.pop("classes"), **whole
    )
