"""Video encoders of Hugging Face's `transformers`: VideoMAE, TimeSformer, ViViT and V-JEPA 2.

The encoders are `transformers`' own modules. This file converts a clip to an encoder's input, and the encoder's tokens
to a feature map (b c t h w). `checkpoints/hugging_face.py` reads folders that `transformers` wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn

from farfield.clip_spec import ClipSpec
from farfield.errors import FarfieldError, nearest
from farfield.models.backbones.backbone import Backbone
from farfield.optional_dependencies import require_packages

TokenOutput = Literal["map", "class_token"]

IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@dataclass(frozen=True)
class Family:
    """A family of encoders in `transformers`.

    Attributes:
        title: name of the family, for messages.
        classes: first part of the names of the family's classes in `transformers`, such as "VideoMAE".
        frames: name of the config's entry for the number of frames.
        side: name of the config's entry for the height and width of the input.
        layers: dotted path, in the encoder, of the list of transformer layers.
        has_class_token: whether a class token precedes the patch tokens.
        takes: which clips the encoder accepts.
            - "config": only clips with the number of frames and the frame size in the config.
            - "larger": clips with the config's number of frames. The frames have the config's size, or any size that
              gives a multiple of n patches per frame. Here n is the number of patches in one row of a frame of the
              config's size.
            - "longer": clips with the config's frame size, and any number of frames that is a multiple of the number of
              frames in a patch.
        clip: function that returns the clip settings used for Kinetics in the encoder's original code, given the number
            of frames and the side in pixels.
    """

    title: str
    classes: str
    frames: str
    side: str
    layers: str
    has_class_token: bool
    takes: Literal["config", "larger", "longer"]
    clip: Callable[[int, int], ClipSpec]


def _videomae_clip(frames: int, side: int) -> ClipSpec:
    """Return the clip settings of MCG-NJU/VideoMAE's Kinetics-400 scripts."""
    return ClipSpec(frames, side, frame_stride=4, short_side_px=side, num_clips=5, num_crops=3, **IMAGENET)


def _timesformer_clip(frames: int, side: int) -> ClipSpec:
    """Return the clip settings of facebookresearch/TimeSformer's Kinetics configs.

    Frames x stride is 8 x 32, 16 x 16 or 96 x 4.
    """
    stride = {96: 4}.get(frames, max(256 // frames, 1))
    return ClipSpec(frames, side, frame_stride=stride, short_side_px=side, num_clips=1, num_crops=3)


def _vivit_clip(frames: int, side: int) -> ClipSpec:
    """Return the clip settings of scenic's vivit_base_k400."""
    half = (0.5, 0.5, 0.5)
    return ClipSpec(frames, side, frame_stride=2, num_clips=4, num_crops=3, mean=half, std=half)


def _vjepa2_clip(frames: int, side: int) -> ClipSpec:
    """Return the clip settings of facebookresearch/vjepa2's probes: 16 frames at stride 4; 32 or 64 at stride 2."""
    stride = 4 if frames <= 16 else 2
    short_side = int(side * 256 / 224)
    return ClipSpec(frames, side, frame_stride=stride, short_side_px=short_side, num_clips=2, num_crops=3, **IMAGENET)


FAMILIES: dict[str, Family] = {
    "videomae": Family(
        "VideoMAE", "VideoMAE", "num_frames", "image_size", "encoder.layer", False, "config", _videomae_clip
    ),
    "timesformer": Family(
        "TimeSformer", "Timesformer", "num_frames", "image_size", "encoder.layer", True, "larger", _timesformer_clip
    ),
    "vivit": Family("ViViT", "Vivit", "num_frames", "image_size", "layers", True, "config", _vivit_clip),
    "vjepa2": Family("V-JEPA 2", "VJEPA2", "frames_per_clip", "crop_size", "layer", False, "longer", _vjepa2_clip),
}
"""Families of encoders, by the `model_type` in the config."""


def hf(*, config: Mapping[str, Any] | None = None, output: TokenOutput = "map") -> Backbone:
    """Build a video encoder of `transformers` with random weights.

    Args:
        config: the encoder's config. It has `model_type`, one of `FAMILIES`, and the entries that differ from the
            defaults of `transformers`.
        output: "map" returns the patch tokens (b c t h w). "class_token" returns the class token (b c 1 1 1). For
            VideoMAE and V-JEPA 2, which have no class token, it returns the first patch token. A TimeSformer with
            attention_type space_only has a class token for each frame: (b c t 1 1).

    Raises:
        FarfieldError: if the config is missing or not of a known family, or `transformers` is not installed.
    """
    if config is None:
        raise FarfieldError(
            "backbone 'hf' has no config; the config defines the encoder. Set weights to a Hugging Face folder or "
            "model name, or backbone_options to {config: {model_type: videomae, ...}}."
        )
    if output not in get_args(TokenOutput):
        raise FarfieldError(f"output is {output!r}. {nearest(str(output), get_args(TokenOutput))}")
    family, made = read_config(config)
    with require_packages("transformers"):
        import transformers
    kind = getattr(transformers, f"{family.classes}Model")
    try:
        encoder = kind(made, add_pooling_layer=False) if made.model_type == "vivit" else kind(made)
    except Exception as error:  # of any kind: transformers builds networks from unchecked values
        raise FarfieldError(
            f"the config of {family.title} is invalid: {first_line(error)}. Check its entries."
        ) from error
    grid = TokenGrid.of(family, made)
    trunk = TokenTrunk(encoder.encoder if made.model_type == "vjepa2" else encoder, grid, output)
    clip = family.clip(grid.frames, grid.side)
    width = made.hidden_size
    normalises_mean = made.model_type == "videomae" and made.use_mean_pooling and output == "map"
    return Backbone(
        trunk,
        {},
        clip,
        out_channels=width,
        embedding=(lambda: ChannelLayerNorm(width)) if normalises_mean else None,
        has_map=output == "map",
        layers=[f"encoder.{family.layers}.{i}" for i in range(made.num_hidden_layers)],
    )


def read_config(config: Mapping[str, Any]) -> tuple[Family, Any]:
    """Check an encoder's config, and return its family and the config as an object of `transformers`.

    Raises:
        FarfieldError: for an unknown family, an unknown entry or an invalid value, or if `transformers` is missing.
    """
    family = family_of(config)
    with require_packages("transformers"):
        import transformers
    kind = getattr(transformers, f"{family.classes}Config")
    known = architecture_entries(kind())
    for name in config:
        if name not in known:
            raise FarfieldError(f"a config of {family.title} has no entry {name!r}. {nearest(str(name), known)}")
    values = {name: value for name, value in config.items() if name != "model_type"}
    try:
        made = kind(**values)
    except Exception as error:  # validators of huggingface_hub have a hierarchy of their own
        reason = " ".join(str(error).split())
        raise FarfieldError(f"the config of {family.title} is invalid: {reason} Correct this entry.") from error
    side = getattr(made, family.side)
    if not isinstance(side, int) and len(set(side)) != 1:
        raise FarfieldError(
            f"the config of {family.title} has {family.side} {list(side)}; farfield needs square frames. Use another "
            "checkpoint."
        )
    return family, made


def first_line(error: Exception) -> str:
    """Return the first line of an error's text without its full stop; the name of the error's type if it has no text.

    The text of a `KeyError` is only the key, so " is not a known value" is appended.
    """
    text = str(error).strip().splitlines()[0] if str(error).strip() else ""
    if isinstance(error, KeyError):
        return f"{text} is not a known value"
    return text.removesuffix(".") or type(error).__name__


def family_of(config: Mapping[str, Any]) -> Family:
    """Return the family of encoders that a config belongs to.

    Raises:
        FarfieldError: if the config's `model_type` is missing, or is not that of a supported video encoder.
    """
    kind = config.get("model_type") if isinstance(config, Mapping) else None
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise FarfieldError(
            f"the config's model_type is {kind!r}, which is not a video encoder that farfield can run. Give one of "
            f"{', '.join(FAMILIES)}."
        )
    return FAMILIES[kind]


def architecture_entries(config: Any) -> dict[str, Any]:
    """Return the entries of a `transformers` config that define the network, including `model_type`."""
    from transformers import PreTrainedConfig

    general = PreTrainedConfig().to_dict()
    return {name: value for name, value in config.to_dict().items() if name not in general or name == "model_type"}


@dataclass(frozen=True)
class TokenGrid:
    """Positions of an encoder's tokens in a clip.

    Attributes:
        family: family of the encoder.
        frames: number of frames that the encoder was made for.
        side: height and width that the encoder was made for, in pixels.
        patch: frames, height and width of one patch.
        class_tokens: number of tokens before the patch tokens.
        is_time_last: whether tokens are ordered by (h w t) instead of (t h w).
        is_by_frame: whether the encoder returns one sequence of p tokens for each frame, (b t) p c, instead of one for
            each clip, b p c.
    """

    family: Family
    frames: int
    side: int
    patch: tuple[int, int, int]
    class_tokens: int
    is_time_last: bool
    is_by_frame: bool

    @classmethod
    def of(cls, family: Family, config: Any) -> TokenGrid:
        """Create the grid of an encoder from its `transformers` config."""
        side = getattr(config, family.side)
        if config.model_type == "vivit":
            depth, height, width = config.tubelet_size
        else:
            depth = getattr(config, "tubelet_size", 1)  # TimeSformer has none
            height, width = (config.patch_size,) * 2 if isinstance(config.patch_size, int) else config.patch_size
        attention = getattr(config, "attention_type", None)
        return cls(
            family,
            getattr(config, family.frames),
            side if isinstance(side, int) else side[0],
            (depth, height, width),
            int(family.has_class_token),
            attention in ("divided_space_time", "joint_space_time"),
            attention == "space_only",
        )

    def check(self, frames: int, height: int, width: int) -> None:
        """Check that the encoder accepts clips with this number of frames, height and width in pixels.

        Raises:
            ValueError: if it does not. The message says which clips it accepts.
        """
        title, takes = self.family.title, self.family.takes
        if takes == "longer":
            if frames % self.patch[0]:
                raise ValueError(f"{title} takes a number of frames that is a multiple of {self.patch[0]}.")
        elif frames != self.frames:
            raise ValueError(f"this {title} was trained on clips of {self.frames} frames and takes no other number.")
        if (height, width) == (self.side, self.side):
            return
        if takes == "longer":
            raise ValueError(
                f"this {title} takes frames of {self.side} px, the crop_size in its config. To change it, set "
                "crop_size in backbone_options.config."
            )
        columns = self.side // self.patch[2]
        if takes == "config" or (height // self.patch[1]) * (width // self.patch[2]) % columns:
            also = f", or of any size that gives a multiple of {columns} patches per frame" * (takes == "larger")
            raise ValueError(f"the position embeddings of this {title} are for frames of {self.side} px{also}.")

    def split(
        self, tokens: Float[Tensor, "n p c"], shape: Sequence[int]
    ) -> tuple[Float[Tensor, "n q c"], Float[Tensor, "b c t h w"]]:
        """Split tokens into class tokens and a map of the patch tokens.

        Args:
            tokens: output of the encoder or of one of its layers, with n sequences of p tokens. n is b, or b * t if
                `is_by_frame`.
            shape: frames, height and width of the clip in pixels.

        Returns:
            The class tokens of each sequence (their number q is `self.class_tokens`), and the map.
        """
        t, h, w = (size // step for size, step in zip(shape, self.patch, strict=True))
        patches = tokens[:, self.class_tokens :]
        if self.is_by_frame:
            found = patches.unflatten(1, (h, w)).unflatten(0, (-1, t)).permute(0, 4, 1, 2, 3)
        elif self.is_time_last:
            found = patches.unflatten(1, (h, w, t)).permute(0, 4, 3, 1, 2)
        else:
            found = patches.unflatten(1, (t, h, w)).permute(0, 4, 1, 2, 3)
        return tokens[:, : self.class_tokens], found


class TokenTrunk(nn.Module):
    """An encoder of `transformers` as a trunk: clips (b 3 t h w) -> patch tokens or class token, as a map (b c t h w).

    Args:
        encoder: module that takes (b t 3 h w) and returns an object with the tokens as `last_hidden_state`.
        grid: positions of the tokens.
        output: see `hf`.
    """

    def __init__(self, encoder: nn.Module, grid: TokenGrid, output: TokenOutput) -> None:
        super().__init__()
        self.encoder = encoder
        self.grid = grid
        self.output = output

    def forward(self, clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c t2 h2 w2"]:
        """Compute the tokens of clips as a feature map.

        Raises:
            ValueError: for clips of a size that the encoder does not take.
        """
        shape = clips.shape[2:]
        self.grid.check(*shape)
        tokens = self.encoder(clips.transpose(1, 2)).last_hidden_state
        if self.output == "map":
            return self.grid.split(tokens, shape)[1].contiguous()
        first = tokens[:, 0]
        per_frame = shape[0] if self.grid.is_by_frame else 1
        return first.unflatten(0, (-1, per_frame)).transpose(1, 2)[..., None, None]


class ChannelLayerNorm(nn.LayerNorm):
    """Layer norm over axis 1, for the pooled features: (b c ...) -> (b c ...). VideoMAE calls it fc_norm."""

    def forward(self, x: Float[Tensor, "b c *rest"]) -> Float[Tensor, "b c *rest"]:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)
