"""Write a folder for publishing a network: weights, configuration, labels and a model card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from farfield.atomic_output import atomic_output
from farfield.checkpoints.checkpoint import load_network, plain_network, read_checkpoint
from farfield.checkpoints.content_hash import network_hash
from farfield.checkpoints.hub_folder import write_folder
from farfield.checkpoints.hugging_face_folder import is_hugging_face
from farfield.errors import FarfieldError
from farfield.models.network import ActionNet
from farfield.reports.model_card import model_card
from farfield.reports.read_test_report import check_report, find_report, read_report


@dataclass(frozen=True)
class FolderReport:
    """Paths and file sizes of a folder that `publish_folder` wrote.

    Attributes:
        out: the folder.
        files: size in bytes of each file, by file name.
        report: path of the test report whose figures are on the model card; None if there is none.
    """

    out: Path
    files: dict[str, int]
    report: Path | None


def publish_folder(model: str | Path | ActionNet, out: Path, report: str | Path | None = None) -> FolderReport:
    """Write a folder for publishing a network, and check that the network read back from it is identical.

    Args:
        model: a checkpoint, a folder that `publish_folder` wrote, or a network. The model card describes the training
            data only if `model` is a checkpoint. It has no test results if `model` is a network.
        out: the folder; it must not exist.
        report: path of a report.json of `farfield test`. None uses test/report.json in the checkpoint's run folder, if
            that report was measured on this checkpoint.

    Raises:
        FarfieldError: if the folder exists or cannot be written, the network's batch norms are folded into its
            convolutions, the report is of another network, or a report is given although `model` is a network.
    """
    if isinstance(model, ActionNet):
        if report is not None:
            raise FarfieldError(
                "'report' needs the path of the tested checkpoint, but 'model' is a network. Set 'model' to the path."
            )
        network, path, measured, data = model, None, None, None
    else:
        network, weights = plain_network(model), network_hash(model)
        path = Path(report) if report is not None else find_report(model, weights)
        measured = None if path is None else read_report(path)
        if measured is not None:
            check_report(measured, network, str(path), weights)
        data = (
            None if Path(model).is_dir() or is_hugging_face(model) else read_checkpoint(model)["farfield"].get("data")
        )
    network.refuse_folded("published")
    card = model_card(network, out.name, data=data, report=measured)
    with atomic_output(out) as partial:
        write_folder(network, partial, card)
        _check_same(network, load_network(partial), out)
        sizes = {each.name: each.stat().st_size for each in sorted(partial.iterdir())}
    return FolderReport(out, sizes, path)


def _check_same(network: ActionNet, again: ActionNet, out: Path) -> None:
    ours, theirs = network.state_dict(), again.state_dict()
    if network.config != again.config or any(not value.equal(theirs[name]) for name, value in ours.items()):
        raise FarfieldError(
            f"{out} was not written: the network read back from it differs from the original. Check the disk."
        )
