"""The published networks written down a second time: plain functions on plain tensors, by the names of their authors.

What `panoptic_deeplab` must equal after converting a checkpoint. Nothing of the package is used, and nothing is
configured: each network is the sequence of its operations. Weights are made when they are first asked for, so a network
that has run once has also listed all names and shapes of its checkpoint.
"""

import zlib

import torch
from torch.nn import functional as F


class Weights:
    """Tensors by name, each a pure function of its name and shape; with `device` `meta`, names and shapes alone."""

    def __init__(self, *, eps=1e-5, device="cpu"):
        self.state = {}
        self.eps = eps
        self.device = device

    def conv(self, x, name, out, kernel=1, *, stride=1, dilation=1, groups=1, bias=False):
        fan_in = x.shape[1] // groups * kernel**2
        weight = self._tensor(f"{name}.weight", (out, x.shape[1] // groups, kernel, kernel), 0, fan_in**-0.5)
        offset = self._tensor(f"{name}.bias", (out,), 0, 0.1) if bias else None
        return F.conv2d(x, weight, offset, stride, dilation * (kernel // 2), dilation, groups)

    def norm(self, x, name):
        weight = self._tensor(f"{name}.weight", (x.shape[1],), 1.2, 0.2)
        bias = self._tensor(f"{name}.bias", (x.shape[1],), 0, 0.1)
        mean = self._tensor(f"{name}.running_mean", (x.shape[1],), 0, 0.1)
        variance = self._tensor(f"{name}.running_var", (x.shape[1],), 1, 0.2).clamp_(min=0.3)
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(0)
        return F.batch_norm(x, mean, variance, weight, bias, eps=self.eps)

    def _tensor(self, name, shape, mean, deviation):
        assert name not in self.state
        if self.device == "meta":
            self.state[name] = torch.empty(shape, device="meta")
            return self.state[name]
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        self.state[name] = torch.randn(shape, generator=generator) * deviation + mean
        return self.state[name]


def resize(x, like, align_corners):
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=align_corners)


def pool(x, window):
    """The mean over a window of this size, at all its places; over everything where the window is larger."""
    if window is None or (window[0] >= x.shape[2] and window[1] >= x.shape[3]):
        return x.mean((2, 3), keepdim=True)
    return F.avg_pool2d(x, window, 1)


# ---------------------------------------------------------------------------------------------------------- backbones
# Each gives the features at strides 4, 8, 16 and the deepest one.


def resnet(w, x, units, *, groups=1, base_width=64):
    """torchvision's, at output stride 32."""
    x = w.norm(w.conv(x, "backbone.conv1", 64, 7, stride=2), "backbone.bn1").relu()
    x = F.max_pool2d(x, 3, 2, 1)
    features = []
    for block, count in enumerate(units):
        planes = 64 * 2**block
        width = planes * base_width // 64 * groups
        for unit in range(count):
            name = f"backbone.layer{block + 1}.{unit}"
            stride = 2 if block > 0 and unit == 0 else 1
            y = w.norm(w.conv(x, f"{name}.conv1", width), f"{name}.bn1").relu()
            y = w.norm(w.conv(y, f"{name}.conv2", width, 3, stride=stride, groups=groups), f"{name}.bn2").relu()
            y = w.norm(w.conv(y, f"{name}.conv3", 4 * planes), f"{name}.bn3")
            if unit == 0:
                x = w.norm(w.conv(x, f"{name}.downsample.0", 4 * planes, stride=stride), f"{name}.downsample.1")
            x = (x + y).relu()
        features.append(x)
    return features


def resnet52(w, x):
    """detectron2's "R-52" at output stride 16: three 3x3 in the stem, rates 2, 4, 8 in the last block."""
    for index, (channels, stride) in enumerate(((64, 2), (64, 1), (128, 1)), start=1):
        name = f"backbone.stem.conv{index}"
        x = w.norm(w.conv(x, name, channels, 3, stride=stride), f"{name}.norm").relu()
    x = F.max_pool2d(x, 3, 2, 1)
    features = []
    for block, count in enumerate((3, 4, 6, 3)):
        width = 64 * 2**block
        for unit in range(count):
            name = f"backbone.res{block + 2}.{unit}"
            stride = 2 if block in (1, 2) and unit == 0 else 1
            dilation = (2, 4, 8)[unit] if block == 3 else 1
            y = w.norm(w.conv(x, f"{name}.conv1", width), f"{name}.conv1.norm").relu()
            y = w.conv(y, f"{name}.conv2", width, 3, stride=stride, dilation=dilation)
            y = w.norm(y, f"{name}.conv2.norm").relu()
            y = w.norm(w.conv(y, f"{name}.conv3", 4 * width), f"{name}.conv3.norm")
            if unit == 0:
                x = w.norm(w.conv(x, f"{name}.shortcut", 4 * width, stride=stride), f"{name}.shortcut.norm")
            x = (x + y).relu()
        features.append(x)
    return features


def mobilenet_v2(w, x):
    """torchvision's, without the last 1x1 convolution."""

    def relu6(y):
        return y.clamp(0, 6)

    x = relu6(w.norm(w.conv(x, "backbone.features.0.0", 32, 3, stride=2), "backbone.features.0.1"))
    layers = [x]
    for expansion, channels, count, first_stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for unit in range(count):
            name, part = f"backbone.features.{len(layers)}.conv", 0
            stride = first_stride if unit == 0 else 1
            y = x
            if expansion > 1:
                y = relu6(w.norm(w.conv(y, f"{name}.0.0", expansion * x.shape[1]), f"{name}.0.1"))
                part = 1
            y = w.conv(y, f"{name}.{part}.0", y.shape[1], 3, stride=stride, groups=y.shape[1])
            y = relu6(w.norm(y, f"{name}.{part}.1"))
            y = w.norm(w.conv(y, f"{name}.{part + 1}", channels), f"{name}.{part + 2}")
            x = x + y if stride == 1 and x.shape[1] == channels else y
            layers.append(x)
    return [layers[number - 1] for number in (4, 7, 14, 18)]  # their names: layer_4, ...


def xception65(w, x, *, output_stride):
    """Strides 4 and 8: the second separable convolution of blocks 2 and 3; stride 16: the end of the middle flow."""

    def separable(y, name, out, *, stride=1, dilation=1, relu_first=True):
        name += ".block"
        y = y.relu() if relu_first else y
        y = w.conv(y, f"{name}.depthwise", y.shape[1], 3, stride=stride, dilation=dilation, groups=y.shape[1])
        y = w.norm(y, f"{name}.bn_depth")
        y = w.norm(w.conv(y if relu_first else y.relu(), f"{name}.pointwise", out), f"{name}.bn_point")
        return y if relu_first else y.relu()

    def block(y, number, channels, *, skip, stride=1, dilation=1, relu_first=True):
        name = f"backbone.block{number}"
        first = separable(y, f"{name}.sep_conv1", channels[0], dilation=dilation, relu_first=relu_first)
        second = separable(first, f"{name}.sep_conv2", channels[1], dilation=dilation, relu_first=relu_first)
        third = separable(
            second, f"{name}.sep_conv3", channels[2], stride=stride, dilation=dilation, relu_first=relu_first
        )
        if skip == "conv":
            third = third + w.norm(w.conv(y, f"{name}.conv", channels[2], stride=stride), f"{name}.bn")
        elif skip == "sum":
            third = third + y
        return third, second

    x = w.norm(w.conv(x, "backbone.conv1", 32, 3, stride=2), "backbone.bn1").relu()
    x = w.norm(w.conv(x, "backbone.conv2", 64, 3), "backbone.bn2").relu()
    x, _ = block(x, 1, (128, 128, 128), stride=2, skip="conv")
    x, stride4 = block(x, 2, (256, 256, 256), stride=2, skip="conv")
    x, stride8 = block(x, 3, (728, 728, 728), stride=2, skip="conv")
    for number in range(4, 20):
        x, _ = block(x, number, (728, 728, 728), skip="sum")
    stride16 = x
    x, _ = block(x, 20, (728, 1024, 1024), stride=2 if output_stride == 32 else 1, skip="conv")
    x, _ = block(x, 21, (1536, 1536, 2048), dilation=1 if output_stride == 32 else 2, skip="none", relu_first=False)
    return [stride4, stride8, stride16, x]


def hrnet48(w, x):
    """The four branches; deep ones are resized to the size of the branch they are added to, with aligned corners."""
    widths = (48, 96, 192, 384)

    def conv_norm(y, name, out, kernel=1, *, stride=1):
        return w.norm(w.conv(y, f"{name}.0", out, kernel, stride=stride), f"{name}.1")

    def module(features, name):
        features = list(features)
        for b, y in enumerate(features):
            for unit in range(4):
                prefix = f"{name}.branches.{b}.{unit}"
                z = w.norm(w.conv(y, f"{prefix}.conv1", widths[b], 3), f"{prefix}.bn1").relu()
                y = (w.norm(w.conv(z, f"{prefix}.conv2", widths[b], 3), f"{prefix}.bn2") + y).relu()
            features[b] = y
        fused = []
        for i, target in enumerate(features):
            total = 0
            for j, y in enumerate(features):
                prefix = f"{name}.fuse_layers.{i}.{j}"
                if j > i:
                    y = resize(conv_norm(y, prefix, widths[i]), target, align_corners=True)
                for step in range(i - j):
                    last = step == i - j - 1
                    y = conv_norm(y, f"{prefix}.{step}", widths[i] if last else widths[j], 3, stride=2)
                    y = y if last else y.relu()
                total = total + y
            fused.append(total.relu())
        return fused

    x = w.norm(w.conv(x, "backbone.conv1", 64, 3, stride=2), "backbone.bn1").relu()
    x = w.norm(w.conv(x, "backbone.conv2", 64, 3, stride=2), "backbone.bn2").relu()
    for unit in range(4):
        name = f"backbone.layer1.{unit}"
        y = w.norm(w.conv(x, f"{name}.conv1", 64), f"{name}.bn1").relu()
        y = w.norm(w.conv(y, f"{name}.conv2", 64, 3), f"{name}.bn2").relu()
        y = w.norm(w.conv(y, f"{name}.conv3", 256), f"{name}.bn3")
        x = (y + (conv_norm(x, f"{name}.downsample", 256) if unit == 0 else x)).relu()
    features = [
        conv_norm(x, "backbone.transition1.0", 48, 3).relu(),
        conv_norm(x, "backbone.transition1.1.0", 96, 3, stride=2).relu(),
    ]
    for stage, modules in ((2, 1), (3, 4), (4, 3)):
        if stage > 2:
            name = f"backbone.transition{stage - 1}.{stage - 1}.0"
            features.append(conv_norm(features[-1], name, widths[stage - 1], 3, stride=2).relu())
        for index in range(modules):
            features = module(features, f"backbone.stage{stage}.{index}")
    return features


# ----------------------------------------------------------------------------------------------- decoders: bowenc0221


def bowenc0221(w, features, *, window=None):
    """Three decoder stages on features of strides 4, 8, 16 and 32 -> semantic, center and offset maps."""

    def conv_norm_relu(y, name, out, kernel=1, *, dilation=1):
        return w.norm(w.conv(y, f"{name}.0", out, kernel, dilation=dilation), f"{name}.1").relu()

    def separable(y, name, out):
        y = w.norm(w.conv(y, f"{name}.0.0", y.shape[1], 5, groups=y.shape[1]), f"{name}.0.1").relu()
        return w.norm(w.conv(y, f"{name}.1", out), f"{name}.2").relu()

    def decode(name, channels, projections):
        deepest = features[-1]
        views = [conv_norm_relu(deepest, f"{name}.aspp.convs.0", 256)]
        for index, rate in enumerate((3, 6, 9), start=1):
            views.append(conv_norm_relu(deepest, f"{name}.aspp.convs.{index}", 256, 3, dilation=rate))
        pooled = w.conv(pool(deepest, window), f"{name}.aspp.convs.4.aspp_pooling.1", 256).relu()
        views.append(resize(pooled, deepest, align_corners=True))
        x = conv_norm_relu(torch.cat(views, 1), f"{name}.aspp.project", 256)
        for index, tap in enumerate((features[2], features[1], features[0])):
            projected = conv_norm_relu(tap, f"{name}.project.{index}", projections[index])
            x = torch.cat([resize(x, tap, align_corners=True), projected], 1)
            x = separable(x, f"{name}.fuse.{index}.0", channels)
        return x

    def classify(x, name, channels, out):
        return w.conv(separable(x, f"{name}.0.0", channels), f"{name}.1", out, bias=True)

    semantic = decode("decoder.semantic_decoder", 256, (128, 64, 32))
    instance = decode("decoder.instance_decoder", 128, (64, 32, 16))
    return (
        classify(semantic, "decoder.semantic_head.classifier.semantic", 256, 19),
        classify(instance, "decoder.instance_head.classifier.center", 32, 1),
        classify(instance, "decoder.instance_head.classifier.offset", 32, 2),
    )


# ------------------------------------------------------------------------------------------------ decoders: detectron2


def detectron2(w, features, *, separable, taps, rates, projections, classes, window=None):
    """`taps`: the features that the decoder adds, deep to shallow; -> semantic, center and offset maps."""

    def conv(y, name, out, kernel=1, *, dilation=1, groups=1):
        return w.norm(w.conv(y, name, out, kernel, dilation=dilation, groups=groups), f"{name}.norm").relu()

    def separable_conv(y, name, out, kernel, *, dilation=1):
        y = conv(y, f"{name}.depthwise", y.shape[1], kernel, dilation=dilation, groups=y.shape[1])
        return conv(y, f"{name}.pointwise", out)

    def refine(y, name, middle, out, *, is_separable=separable):
        if is_separable:
            return separable_conv(y, name, out, 5)
        return conv(conv(y, f"{name}.0", middle, 3), f"{name}.1", out, 3)

    def decode(head, channels):
        deepest, name = features[-1], f"{head}.decoder.res5.project_conv"
        views = [conv(deepest, f"{name}.convs.0", 256)]
        for index, rate in enumerate(rates, start=1):
            atrous = separable_conv if separable else conv
            views.append(atrous(deepest, f"{name}.convs.{index}", 256, 3, dilation=rate))
        pooled = w.conv(pool(deepest, window), f"{name}.convs.4.1", 256, bias=True).relu()
        views.append(resize(pooled, deepest, align_corners=False))
        x = conv(torch.cat(views, 1), f"{name}.project", 256)
        for tap, projection in zip(taps, projections, strict=True):
            name = f"{head}.decoder.{tap}"
            feature = features[int(tap[-1]) - 2]
            projected = conv(feature, f"{name}.project_conv", projection)
            x = torch.cat([projected, resize(x, projected, align_corners=False)], 1)
            x = refine(x, f"{name}.fuse_conv", channels, channels)
        return x

    semantic = refine(decode("sem_seg_head", 256), "sem_seg_head.head", 256, 256)
    instance = decode("ins_embed_head", 128)
    center = refine(instance, "ins_embed_head.center_head", 128, 32, is_separable=False)
    offset = refine(instance, "ins_embed_head.offset_head", 128, 32)
    return (
        w.conv(semantic, "sem_seg_head.predictor", classes, bias=True),
        w.conv(center, "ins_embed_head.center_predictor", 1, bias=True),
        w.conv(offset, "ins_embed_head.offset_predictor", 2, bias=True),
    )
