"""A small embedding network: the stages of `nets/resnet.py`, read place by place, for whose an image is."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from counterscan.nets.blocks import conv
from counterscan.nets.resnet import ResNet


class Embedder(nn.Module):
    """Maps `(b, channels, h, w)` to rows `(b, outputs)` of length one, whose products are cosine similarities.

    What the last stage sees is brought to `kept` channels at `places` x `places` and read by one linear layer: a mean
    over the image, as classifiers take it, would know which vessels there are and not where. `threshold` is the
    similarity from which two images count as the same; it is carried for those who load the network.
    """

    def __init__(
        self,
        channels: int = 1,
        outputs: int = 128,
        widths: Sequence[int] = (24, 48, 96),
        depth: int = 1,
        kept: int = 24,
        places: int = 8,
        threshold: float = 1.0,
    ):
        super().__init__()
        self.threshold, self.places = threshold, places
        self.trunk = ResNet(channels, outputs, widths, depth)
        del self.trunk.dropout, self.trunk.head
        self.keep = conv(widths[-1], kept, 1)
        self.head = nn.Linear(kept * places**2, outputs)

    def forward(self, images: Tensor) -> Tensor:
        seen = F.relu(self.trunk.norm(self.trunk.features(images)[-1]))
        laid_out = F.adaptive_avg_pool2d(self.keep(seen), self.places)
        return F.normalize(self.head(laid_out.flatten(1)).float(), dim=1)
