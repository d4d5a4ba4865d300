"""HRNet: branches of strides 4, 8, 16 and 32 side by side through the whole network (Table 5; [70], arXiv 1908.07919).

    stem, stage 1 ─▶ stage 2 ─▶ stage 3 ─▶ stage 4 ─▶ stride 4  ── incre ─────────▶ feature
                          └───▶ ....... ─▶ ....... ─▶ stride 8  ── incre ──(+)────▶ feature
                                     └───▶ ....... ─▶ stride 16 ── incre ──(+)────▶ feature
                                                └───▶ stride 32 ── incre ──(+) ─ final ─▶ feature
                                  trunk ("branches")       ImageNet head ("plus")

The paper says little of its variants and published none of their code:

- "HRNet-W48 follows the original design in [70]": `hrnet_w48_branches` with `decoder` `hrnet`.
- "HRNet+": "we keep its ImageNet-pretrained head and further attach dual-ASPP and dual-decoder modules":
  `hrnet_w48_plus`, `hrnet_wider_plus`. The context modules read the head's 2048 channels; that the decoders read the
  outputs of the head's first layer ("incre") is inferred.
- "(Atrous)": "atrous convolution with rate 2 in the output stride 32 branch": `output_stride` 16. The counts say that
  the head's end and the context modules run at stride 16 too.
- "HRNet-Wider+: a wider version of HRNet using separable convolution with large channels."

`hrnet_exchange` `inferred` is the layout that we inferred from the printed counts. Five things differ from the public
code, whose ImageNet weights therefore do not fit:

1. A deep feature is resized first and convolved then, the order of [70]'s text, by 3x3 instead of 1x1: without that,
   HRNet-W48 lacks a quarter of its multiply-adds.
2. A new branch starts from all branches instead of from the deepest, as in the text of [70] on "fusion across stages".
3. In front of the ImageNet head, the last module has no path from deep to shallow, since the head brings everything to
   the deepest branch. HRNet-W48+ prints 97 B multiply-adds less than HRNet-W48, although its head, context modules and
   decoders cost 200 B where HRNet-W48's head costs 166 B; so its trunk lacks 131 B, and these paths cost 134 B.
4. HRNet-Wider's widths are (64, 192, 640, 640), with dense convolutions in the ImageNet head: of about a thousand round
   widths, those nearest to the counts. W48's widths doubled (96, 192, 384, 768) give 49 M parameters only.
5. HRNet-W48+ keeps the ImageNet head to its end: the layer of 1000 classes too, as a dense 1x1 convolution from 2048
   channels, whose output nothing reads. For it speak the counts: without it, W48+ has 86.02 M parameters (- 3.20 %) and
   2196.8 B multiply-adds (- 0.51 %; atrous: 2931.1 B, - 1.38 %); with it 88.07 M (- 0.90 %), 2206.2 B (- 0.08 %) and
   2968.9 B (- 0.10 %). It also explains the step between the two printed multiply-adds: 763.98 B, of which 734.30 B
   come without it and 762.71 B with it. And "keep its ImageNet-pretrained head" can mean this. Against it speak that a
   layer which nothing reads has no purpose, that 0.80 M parameters are missing still, and that HRNet-Wider+, whose
   caption says "also kept", fits better without (with it 62.13 M, + 3.46 %; 1311.6 B, - 0.31 %; atrous 1743.1 B,
   + 1.84 %), so there it is not. It is frozen, since it gets no gradient.

What we count with it at 2161 x 2161 for 65 classes, the public layout, and the paper's numbers (parameters in M,
multiply-adds in B):

                          inferred         public           paper
    HRNet-W48             71.56  2295.9    65.89  1687.3    71.66  2304.87
    HRNet-W48+            88.07  2206.2    81.81  1721.9    88.87  2208.04
    HRNet-W48+ (Atrous)   88.07  2968.9    81.81  2454.7    88.87  2972.02
    HRNet-Wider+          60.08  1302.1                     60.05  1315.70
    HRNet-Wider+ (Atrous) 60.08  1705.2                     60.05  1711.69
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from panoptic_deeplab.config import ModelConfig
from panoptic_deeplab.errors import ConfigError
from panoptic_deeplab.model.backbones.hrnet_blocks import Bottleneck, HighResolutionModule, HRNetLayout, descend
from panoptic_deeplab.model.layers import initialize_convolutions

_W48 = (48, 96, 192, 384)
_WIDER = (64, 192, 640, 640)
_HEAD_WIDTHS = (32, 64, 128, 256)
"""Inner channels of the ImageNet head's bottlenecks, which give 128, 256, 512 and 1024."""
_HEAD_CHANNELS = 2048
_IMAGENET_CLASSES = 1000


def hrnet_w48_branches(config: ModelConfig) -> "HRNet":
    """The trunk of HRNetV2-W48: branches of 48, 96, 192 and 384 channels."""
    return HRNet(_layout(config, _W48), timm_name=_timm_name(config))


def hrnet_w48_plus(config: ModelConfig) -> "HRNetPlus":
    """HRNet-W48+: the trunk and the ImageNet head, features of 128, 256, 512 and 2048 channels."""
    image_classes = _IMAGENET_CLASSES if config.hrnet_exchange == "inferred" else None
    return HRNetPlus(_layout(config, _W48), timm_name=_timm_name(config), image_classes=image_classes)


def hrnet_wider_plus(config: ModelConfig) -> "HRNetPlus":
    """HRNet-Wider+: wide branches of separable convolutions, and the ImageNet head."""
    return HRNetPlus(_layout(config, _WIDER, separable=True), timm_name=None)


class HRNet(nn.Module):
    """The trunk. Weights of the authors, timm and bowenc0221 have the same names.

    Args:
        layout: shape of all layers.
        timm_name: name of the network of timm whose weights fit; None = there is none.
        upward_end: whether the last module has paths from deep to shallow branches.
    """

    def __init__(self, layout: HRNetLayout, *, timm_name: str | None = None, upward_end: bool = True) -> None:
        super().__init__()
        self.layout = layout
        self.timm_name = timm_name
        self.strides: tuple[int, ...] = (4, 8, 16, 16 if layout.atrous else 32)
        self.channels: tuple[int, ...] = layout.widths
        stem, widths = layout.stem_width, layout.widths
        self.conv1 = nn.Conv2d(3, stem, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv2 = nn.Conv2d(stem, stem, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem)
        self.layer1 = nn.Sequential(
            *(Bottleneck(stem if index == 0 else 4 * stem, stem, layout=layout) for index in range(4))
        )
        first, second = nn.BatchNorm2d(widths[0]), nn.BatchNorm2d(widths[1])
        self.transition1 = nn.ModuleList(
            [
                nn.Sequential(layout.convolution(4 * stem, widths[0]), first, nn.ReLU(inplace=True)),
                _NewBranch([nn.Sequential(layout.convolution(4 * stem, widths[1], stride=2), second)]),
            ]
        )
        self.stage2 = _stage(2, layout)
        self.transition2 = nn.ModuleList([nn.Identity(), nn.Identity(), _new_branch(2, layout)])
        self.stage3 = _stage(3, layout)
        self.transition3 = nn.ModuleList([nn.Identity(), nn.Identity(), nn.Identity(), _new_branch(3, layout)])
        self.stage4 = _stage(4, layout, upward_end=upward_end)
        initialize_convolutions(self)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Features of the branches, shallow to deep."""
        output = F.relu(self.bn1(self.conv1(images)))
        output = self.layer1(F.relu(self.bn2(self.conv2(output))))
        features = [self.transition1[0](output), self.transition1[1]([output])]
        features = self.stage2(features)
        features = self.stage3([*features, self.transition2[-1](features)])
        output_features: list[Tensor] = self.stage4([*features, self.transition3[-1](features)])
        return output_features

    def from_timm(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Those weights of timm's network whose layers this one has; the names are the same."""
        return {name: state[name] for name in self.state_dict() if name in state}


class HRNetPlus(HRNet):
    """The trunk with the head that classifies ImageNet, up to its pooling.

    The features are the outputs of the head's bottlenecks for strides 4, 8 and 16, each before a shallower one is
    added, and the head's output.

    Args:
        layout: shape of all layers.
        timm_name: as of `HRNet`.
        head_widths: inner channels of the bottlenecks.
        head_channels: channels of the output.
        image_classes: outputs of the layer that classifies images, which is kept and run as the paper's counts imply,
            though nothing reads it (point 5 above); None = there is none.
    """

    def __init__(
        self,
        layout: HRNetLayout,
        *,
        timm_name: str | None = None,
        head_widths: tuple[int, int, int, int] = _HEAD_WIDTHS,
        head_channels: int = _HEAD_CHANNELS,
        image_classes: int | None = None,
    ) -> None:
        super().__init__(layout, timm_name=timm_name, upward_end=layout.exchange != "inferred")
        dense = HRNetLayout(widths=layout.widths)
        channels = [4 * width for width in head_widths]
        self.incre_modules = nn.ModuleList(
            nn.Sequential(Bottleneck(layout.widths[index], width, layout=dense, rate=layout.rate_in(index)))
            for index, width in enumerate(head_widths)
        )
        self.downsamp_modules = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels[index - 1], channels[index], 3, stride=layout.stride_into(index), padding=1),
                nn.BatchNorm2d(channels[index]),
                nn.ReLU(inplace=True),
            )
            for index in (1, 2, 3)
        )
        self.final_layer = nn.Sequential(
            nn.Conv2d(channels[-1], head_channels, 1), nn.BatchNorm2d(head_channels), nn.ReLU(inplace=True)
        )
        self.channels = (*channels[:-1], head_channels)
        self.classifier = None if image_classes is None else nn.Conv2d(head_channels, image_classes, 1)
        initialize_convolutions(self)
        if self.classifier is not None:
            self.classifier.requires_grad_(False)  # processes that train together would wait for its gradient

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Features of the head, shallow to deep."""
        features = [incre(branch) for incre, branch in zip(self.incre_modules, super().forward(images), strict=True)]
        total = features[0]
        for downsample, feature in zip(self.downsamp_modules, features[1:], strict=True):
            total = feature + downsample(total)
        deepest = self.final_layer(total)
        if self.classifier is not None:
            self.classifier(deepest)
        return [*features[:-1], deepest]


class _NewBranch(nn.ModuleList):
    """The first feature of a new, deepest branch: the sum over paths from the deepest branch, the next deepest, ..."""

    def forward(self, features: list[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B _ _ _"]:
        total = self[0](features[-1])
        for path, feature in zip(list(self)[1:], features[-2::-1], strict=False):  # only one path in the public layout
            total = total + path(feature)
        return F.relu(total)


def _new_branch(target: int, layout: HRNetLayout) -> _NewBranch:
    """The transition to branch `target`."""
    paths: list[nn.Module] = descend(target - 1, target, layout)
    if layout.exchange == "inferred":
        paths += [nn.Sequential(*descend(source, target, layout)) for source in range(target - 2, -1, -1)]
    return _NewBranch(paths)


def _stage(branches: int, layout: HRNetLayout, *, upward_end: bool = True) -> nn.Sequential:
    count = layout.modules[branches - 2]
    return nn.Sequential(
        *(
            HighResolutionModule(branches, layout=layout, upward=upward_end or index < count - 1)
            for index in range(count)
        )
    )


def _layout(config: ModelConfig, widths: tuple[int, int, int, int], *, separable: bool = False) -> HRNetLayout:
    if config.output_stride == 8:
        raise ConfigError(
            f"`model.backbone` {config.backbone!r} has output stride 32, or 16 with atrous convolution in its fourth"
            " branch. Got `model.output_stride` 8 instead."
        )
    return HRNetLayout(
        widths=widths,
        separable=separable,
        exchange=config.hrnet_exchange,
        align_corners=config.align_corners,
        atrous=config.output_stride == 16,
    )


def _timm_name(config: ModelConfig) -> str | None:
    return None if config.hrnet_exchange == "inferred" else "hrnet_w48"
