"""`farfield.explain`: explain a network's prediction for a video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from farfield.argument_types import checked_arguments
from farfield.errors import FarfieldError
from farfield.memory_errors import out_of_memory_as_ours
from farfield.progress import progress_bars
from farfield.video.decoder_names import Decoder

if TYPE_CHECKING:
    from farfield.interpretability.explanation import Explanation
    from farfield.models.network import ActionNet
    from farfield.scoring.load import InferenceModel


@out_of_memory_as_ours(
    "Give smaller num_clips and num_crops.",
    on_gpu="Give smaller num_clips and num_crops, or run on the CPU: device cpu.",
)
@checked_arguments
def explain(
    video: str | Path,
    model: str | Path | InferenceModel,
    *,
    out: str | Path | None = None,
    time: float | None = None,
    point: tuple[float, float] | None = None,
    label: str | None = None,
    stage: str | None = None,
    connections: int = 20,
    num_clips: int | None = None,
    num_crops: int | None = None,
    top_k: int = 5,
    device: str = "auto",
    decoder: Decoder = "pyav",
    fps: float | None = None,
    progress: bool = True,
) -> Explanation:
    """Explain a network's prediction for a video by attention, Grad-CAM and class evidence over time.

    If `out` is given, this folder gets a page that shows the whole explanation (explanation.html), its numbers
    (explanation.json), and its pictures and videos. For each inserted block that has attention maps, attention.png
    shows the attention of one position as arrows, and attention_BLOCK.mp4 shows it as a heat map. part_BLOCK.png shows
    the gates, channel attention or object regions of blocks that have them. grad_cam.png and grad_cam.mp4 show Grad-CAM
    for the explained class. evidence.png shows the evidence for classes over time. windows.png shows the class
    probabilities of each clip. If there are several clips, it also shows how much each clip contributes to one class:
    the predicted class of a single-label network, or the explained class of other networks.

    Args:
        video: a video file, or a folder of numbered pictures.
        model: a checkpoint, or a network from `build_model` or `load_model(for_training=True)`. A network runs on its
            current device.
        out: folder to write the files to; created if it does not exist. None writes nothing.
        time: time of the position whose attention is shown, in seconds from the start of the video. A view that
            contains this time is explained. None explains the view with the highest probability of the explained class,
            and chooses, for each block, the time at which the block changes the score of this class the most.
        point: (y, x) of the position, in pixels of the crop that the network sees. None chooses, for each block, the
            point at which the block changes the score of the explained class the most.
        label: class to explain; None for the most probable class, whether or not it reaches its threshold. One call
            explains one class, even if a multilabel network predicts several.
        stage: stage whose features Grad-CAM uses, for example "res4"; None for the last stage of each pathway (see
            `default_stages` for networks without stages, or with blocks after the last stage).
        connections: maximum number of arrows for each block.
        num_clips: number of clips spread over the video; None for the network's test setting.
        num_crops: number of crops of each clip; None for the network's test setting.
        top_k: number of classes in the curves and tables that are written. The table of a multilabel network also has
            all other classes that reach their thresholds.
        device: device to run a checkpoint on: "auto", "cpu", "cuda" or, for example, "cuda:1".
        decoder: decoder that opens the video: "pyav" or "decord".
        fps: frame rate of a folder of pictures, required for such a folder; ignored for a file.
        progress: show progress bars.

    Raises:
        VideoError: if the file cannot be decoded, or is shorter than a clip and the network does not loop it.
        FarfieldError: if the model cannot be loaded, is exported, or has folded batch norms; if an argument is invalid,
            such as an unknown class or a time that no view contains; or if `out` cannot be written.

    Example:
        found = farfield.explain("clip.mp4", "best.ckpt", out="explained")
        found.ranking(5), found.maps
    """
    # Imported late, because they import PyTorch: `farfield explain --help` reads only this function's signature.
    from farfield.interpretability.explanation import explain_video
    from farfield.interpretability.explanation_files import check_folder, write_explanation

    if top_k < 1:
        raise FarfieldError(f"top_k is {top_k}; it must be at least 1.")
    if point is not None and len(point) != 2:
        raise FarfieldError(
            f"point is {point}; it must have two coordinates. Give (y, x) in pixels of the crop that the network sees."
        )
    if out is not None:
        check_folder(out)
    network = _plain_network(model, device)
    with progress_bars(progress):
        explanation = explain_video(
            video,
            network,
            time=time,
            point=point,
            label=label,
            stage=stage,
            connections=connections,
            num_clips=num_clips,
            num_crops=num_crops,
            decoder=decoder,
            fps=fps,
        )
        if out is not None:
            write_explanation(explanation, out, connections=connections, top_k=top_k)
    return explanation


def _plain_network(model: str | Path | InferenceModel, device: str) -> ActionNet:
    """Return the model as an `ActionNet`, whose layers can be accessed.

    Raises:
        FarfieldError: if the model is exported, has folded batch norms, or cannot be loaded.
    """
    from farfield.checkpoints.checkpoint import load_network
    from farfield.device import find_device
    from farfield.models.network import ActionNet
    from farfield.scoring.load import is_exported

    if isinstance(model, ActionNet):
        model.refuse_folded("explained")
        return model
    if not isinstance(model, str | Path):
        raise FarfieldError(
            "model is an exported network, which returns only scores. Give the checkpoint that it was exported from."
        )
    if is_exported(model) or (Path(model).is_dir() and any(Path(model).glob("*.onnx"))):
        raise FarfieldError(
            f"{model} is an exported network, which returns only scores. Give the .ckpt file that it was exported from."
        )
    return load_network(model).to(find_device(device))
