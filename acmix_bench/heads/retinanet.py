"""RetinaNet (Lin et al., Focal Loss for Dense Object Detection, ICCV 2017), as PVT uses it: P3 to P7."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from acmix_bench.heads.detector import CHANNELS, RATIOS, Anchors, AsTheyAre, Pyramid, in_float32

STRIDES = (8, 16, 32, 64, 128)
SCALES = tuple(4 * 2 ** (third / 3) for third in range(3))  # of a map's stride
DETECTIONS = 100


class Retina(RetinaNet):  # type: ignore[misc]
    """torchvision's RetinaNet, whose labels begin at 1 on both sides, without weights for a class of number 0."""

    def __init__(self, features: nn.Module, *, classes: int) -> None:
        width = features.feature_info[-1]["num_chs"]  # type: ignore[index]
        more = LastLevelP6P7(width, CHANNELS)
        more.use_P5 = False  # P6 is of C5, whatever its width
        super().__init__(
            Pyramid(features, first=1, more=more),
            classes,
            anchor_generator=Anchors(tuple(tuple(stride * scale for scale in SCALES) for stride in STRIDES), STRIDES),
            head=in_float32(RetinaNetHead(CHANNELS, len(SCALES) * len(RATIOS), classes)),
            detections_per_img=DETECTIONS,
        )
        self.transform = AsTheyAre()

    def forward(self, images: Any, targets: list[dict[str, Tensor]] | None = None) -> Any:
        if targets is not None:
            return super().forward(images, [{**target, "labels": target["labels"] - 1} for target in targets])
        return [{**found, "labels": found["labels"] + 1} for found in super().forward(images)]

    def network(self, images: Tensor) -> tuple[Tensor, ...]:
        batch, _ = self.transform(images)
        return tuple(self.head(list(self.backbone(batch.tensors).values())).values())
