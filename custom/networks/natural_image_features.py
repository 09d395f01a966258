"""Features of a network that was trained on photographs, to describe the texture of small patches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from monai.networks.nets.efficientnet import EfficientNet
from torch import Tensor, nn

PRETRAINED = Path(__file__).with_name("pretrained") / "efficientnet_lite0.pt"
# The first five stages of EfficientNet-Lite0; "Lite" = without squeeze and excitation, and with ReLU6.
STAGES: tuple[str, ...] = (
    "r1_k3_s11_e1_i32_o16",
    "r2_k3_s22_e6_i16_o24",
    "r2_k5_s22_e6_i24_o40",
    "r3_k3_s22_e6_i40_o80",
)
STAGES += ("r3_k5_s11_e6_i80_o112",)
USED = (2, 4)  # strides 8 and 16, with 40 and 112 channels
SIDE = 192  # pixels, about the size of photographs in the training


class NaturalImageFeatures(nn.Module):
    """Features of patches of 8 x 8 pixels and their surroundings: two middle stages of EfficientNet-Lite0 (Tan and Le,
    ICML 2019), trained on ImageNet.

    Each stage is averaged over 3 x 3 neighbours, as in PatchCore (Roth et al., CVPR 2022). The network is frozen.
    Images are enlarged to 192 x 192 pixels, so that their features form a grid of 24 x 24.

    Its weights are those of ``pretrained/efficientnet_lite0.pt`` after :meth:`load_pretrained`; until then, they are
    random, for a state_dict to be loaded into.
    """

    channels = 152
    grid = SIDE // 8

    def __init__(self) -> None:
        super().__init__()
        network = EfficientNet(list(STAGES), image_size=SIDE, drop_connect_rate=0.0, num_classes=1)
        for module in network.modules():
            if hasattr(module, "_swish"):
                module._swish = nn.ReLU6()
        self.stem = nn.Sequential(network._conv_stem_padding, network._conv_stem, network._bn0, nn.ReLU6())
        self.stages = network._blocks
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor, size: Sequence[int] = (SIDE, SIDE)) -> Tensor:
        """Features (B, 152, height / 8, width / 8), float32, of images (B, C, H, W) in [0, 1].

        Args:
            images: of 3 channels; of other images the mean of the channels is shown.
            size: height and width to which the images are enlarged first, multiples of 32.
        """
        with torch.autocast(images.device.type, enabled=False):
            x = images.float()
            x = x if x.shape[1] == 3 else x.mean(1, keepdim=True).expand(-1, 3, -1, -1)
            x = self.stem(F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False) * 2 - 1)
            found = []
            for number, stage in enumerate(self.stages):
                x = stage(x)
                if number in USED:
                    near = F.avg_pool2d(x, 3, stride=1, padding=1)
                    found.append(
                        F.interpolate(near, size=[side // 8 for side in size], mode="bilinear", align_corners=False)
                    )
            return torch.cat(found, 1)

    def train(self, mode: bool = True) -> NaturalImageFeatures:
        """Stay in evaluation mode: the statistics of its normalisation belong to the weights."""
        return super().train(False)

    def load_pretrained(self) -> None:
        """Load the weights learned on ImageNet, which come with the package."""
        device = next(self.parameters()).device
        self.load_state_dict(torch.load(PRETRAINED, map_location=device, weights_only=True))
