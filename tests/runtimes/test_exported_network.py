"""Files that are not what they should be: each is refused in a sentence. None would harm another reader."""

from __future__ import annotations

import io
import json
import pickle
import re
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from exporters.networks import awake
from farfield.errors import FarfieldError
from farfield.exporters.export_file import export_model
from farfield.exporters.openvino import openvino_model
from farfield.runtimes.exported_network import load_exported
from farfield.runtimes.metadata import ExportMetadata, read_description
from farfield.runtimes.torch_export_archive import _check_string
from farfield.untrusted_json import MAX_LEVELS


@pytest.fixture(scope="module")
def pt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "a.pt2"
    export_model(awake(insert=None), path)
    return path


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes | None], **added: bytes) -> Path:
    """A copy of an archive with members changed, dropped (None) or added."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for info in old.infolist():
            content = change(info.filename.partition("/")[2], old.read(info))
            if content is not None:
                new.writestr(info.filename, content)
        root = old.namelist()[0].partition("/")[0]
        for name, content in added.items():
            new.writestr(f"{root}/{name}", content)
    return target


@pytest.mark.slow
def test_a_copied_archive_is_read(pt2: Path, tmp_path: Path) -> None:
    copy = rewritten(pt2, tmp_path / "copy.pt2", lambda name, content: content)
    clips = torch.randn(2, 3, 4, 32, 32)
    assert torch.equal(load_exported(copy)(clips), load_exported(pt2)(clips))


@pytest.mark.slow
def test_archives_that_could_run_code_are_refused(pt2: Path, tmp_path: Path) -> None:
    """PyTorch's reader unpickles examples and constants, evaluates guards and formulas as Python, loads libraries, and
    calls what a graph names: functions that read files, build extensions or fetch programs, too. We read none of it
    but what we write, so that harmless things off our lists show it as well: plain tensors, `True`, the identity.
    """
    tensor = io.BytesIO()
    torch.save(torch.zeros(1), tensor)

    def model(change: Callable[[dict], None]) -> Callable[[str, bytes], bytes]:
        def apply(name: str, content: bytes) -> bytes:
            if name != "models/model.json":
                return content
            graph = json.loads(content)
            change(graph)
            return json.dumps(graph).encode()

        return apply

    def constants(name: str, content: bytes) -> bytes:
        if name != "data/constants/model_constants_config.json":
            return content
        about = {"path_name": "tensor_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
        return json.dumps({"config": {"c": about}}).encode()

    def guarded(graph: dict) -> None:
        graph["guards_code"] = ["True"]

    def formula(graph: dict) -> None:
        graph["range_constraints"] = {"abs(s0)": {"min_val": 1, "max_val": 9}}

    def symbol(graph: dict) -> None:
        for value in graph["graph_module"]["graph"]["tensor_values"].values():
            value["sizes"][0] = {"as_expr": {"expr_str": "s0.real", "hint": {"as_int": 2}}}

    def target(name: str) -> Callable[[dict], None]:
        def apply(graph: dict) -> None:
            graph["graph_module"]["graph"]["nodes"][0]["target"] = name

        return apply

    def callee(graph: dict) -> None:
        graph["graph_module"]["graph"]["nodes"][0]["inputs"][0]["arg"] = {"as_operator": "torch.is_tensor"}

    def container(graph: dict) -> None:
        call = graph["graph_module"]["module_call_graph"][0]["signature"]
        call["in_spec"] = call["in_spec"].replace("builtins.dict", "collections.OrderedDict")

    cases = {
        "example.pt2": (
            lambda n, c: tensor.getvalue() if n == "data/sample_inputs/model.pt" else c,
            {},
            "it holds example inputs",
        ),
        "constant.pt2": (constants, {"data/constants/tensor_0": tensor.getvalue()}, "'c' is not a plain tensor"),
        "object.pt2": (lambda n, c: c, {"data/constants/custom_obj_0": pickle.dumps(None)}, "custom_obj_0"),
        "library.pt2": (
            lambda n, c: c,
            {"data/aotinductor/model/a.so": b""},
            "it contains the file 'data/aotinductor/model",
        ),
        "guards.pt2": (model(guarded), {}, "its graph has guards"),
        "formula.pt2": (model(formula), {}, "its graph has the formula 'abs(s0)'"),
        "symbol.pt2": (model(symbol), {}, "its graph has the formula 's0.real'"),
        "identity.pt2": (model(target("torch.ops.aten.positive.default")), {}, "calls 'torch.ops.aten.positive.def"),
        "other.pt2": (model(target("torch.ops.prims.view_of.default")), {}, "calls 'torch.ops.prims.view_of.default'"),
        "index.pt2": (model(target("_operator.index")), {}, "its graph calls '_operator.index'"),
        "python.pt2": (model(target("torch.is_tensor")), {}, "its graph calls 'torch.is_tensor'"),
        "callee.pt2": (model(callee), {}, "its graph calls 'torch.is_tensor'"),
        "container.pt2": (model(container), {}, "a container 'collections.OrderedDict'"),
    }
    for name, (change, added, message) in cases.items():
        path = rewritten(pt2, tmp_path / name, change, **added)
        with pytest.raises(FarfieldError, match=re.escape(message)):
            load_exported(path)


@pytest.mark.slow
def test_duplicate_members_are_refused(pt2: Path, tmp_path: Path) -> None:
    """Readers differ in which of them they take: what was checked might not be what is loaded. Here both are equal."""
    twice = tmp_path / "twice.pt2"
    with zipfile.ZipFile(pt2) as old, zipfile.ZipFile(twice, "w") as new, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that comes twice
        for info in [*old.infolist(), old.infolist()[-1]]:
            new.writestr(info.filename, old.read(info))
    with pytest.raises(FarfieldError, match="it has two members with the same name"):
        load_exported(twice)


@pytest.mark.parametrize(
    ("formula", "refused"),
    [
        ("s0", False),
        ("Mul(Integer(3072), Symbol('s45', positive=True, integer=True))", False),
        ("FloorDiv(s0 + 1, 2)", False),
        ("Symbol('s45', positive=print())", True),
        ("s0.__class__", True),
        ("exec", True),
        ("lambda: 1", True),
        ("'a'", True),
    ],
)
def test_only_arithmetic_formulas_are_accepted(formula: str, refused: bool) -> None:
    if not refused:
        _check_string("expr_str", formula, Path("a.pt2"))
        return
    with pytest.raises(FarfieldError, match=r"a\.pt2 was not read: its graph has the formula"):
        _check_string("expr_str", formula, Path("a.pt2"))


@pytest.mark.slow
def test_files_of_other_programs_are_refused(tmp_path: Path, pt2: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [value],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "theirs.onnx")
    rewritten(pt2, tmp_path / "theirs.pt2", lambda name, content: None if name.startswith("extra/") else content)
    for name in ("theirs.onnx", "theirs.pt2"):
        with pytest.raises(FarfieldError, match=f"{name} was not written by farfield export: it has no metadata with"):
            load_exported(tmp_path / name)


@pytest.mark.slow
def test_weights_of_another_export_are_refused(tmp_path: Path) -> None:
    network = awake(insert=None)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        export_model(network, tmp_path / name / "n.xml")
        network.head.fc.weight.data.mul_(-1)
    clips = torch.randn(2, 3, 4, 32, 32)
    assert not torch.equal(*(load_exported(tmp_path / name / "n.xml")(clips) for name in ("a", "b")))
    (tmp_path / "b/n.bin").replace(tmp_path / "a/n.bin")
    with pytest.raises(FarfieldError, match=r"n\.bin does not belong to n\.xml: it is of another export\. Copy both"):
        load_exported(tmp_path / "a/n.xml")
    text = (tmp_path / "a/n.xml").read_text()
    earlier = re.sub(r'<weights value="[0-9a-f]{16}"\s*/>', "", text)  # an export of an earlier version
    assert earlier != text
    (tmp_path / "a/n.xml").write_text(earlier)
    load_exported(tmp_path / "a/n.xml")


@pytest.mark.slow
def test_a_damaged_file_is_refused(tmp_path: Path, pt2: Path) -> None:
    for name in ("a.onnx", "b.xml", "c.pt2"):
        (tmp_path / name).write_bytes(b"\x08\x07no network" * 50)
    (tmp_path / "b.bin").write_bytes(b"")
    (tmp_path / "d.pt2").write_bytes(pt2.read_bytes()[: pt2.stat().st_size // 2])
    rewritten(pt2, tmp_path / "e.pt2", lambda name, content: None if name.endswith("weight_3") else content)
    rewritten(pt2, tmp_path / "f.pt2", lambda name, content: b"{" if name.endswith("model.json") else content)
    (tmp_path / "alone.xml").write_text("<net/>")
    for name in ("a.onnx", "b.xml", "c.pt2", "d.pt2", "e.pt2", "f.pt2"):
        with pytest.raises(FarfieldError, match=f"{re.escape(name)} cannot be read: it is damaged"):
            load_exported(tmp_path / name)
    with pytest.raises(FarfieldError, match=r"needs its weights, alone\.bin, in the same folder"):
        load_exported(tmp_path / "alone.xml")
    with pytest.raises(FarfieldError, match="there is no exported network at"):
        load_exported(tmp_path / "none.onnx")
    with pytest.raises(FarfieldError, match=r"is not an exported network\. Known suffixes: \.onnx, \.xml, \.pt2"):
        load_exported(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("suffix", "package", "extra"), [(".onnx", "onnxruntime", "export"), (".xml", "openvino", "openvino")]
)
def test_missing_runtime_names_its_extra(
    suffix: str, package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        FarfieldError, match=rf'the package {package} is needed, .* Run pip install "farfield\[{extra}\]"'
    ):
        load_exported(tmp_path / f"a{suffix}")


@pytest.fixture(scope="module")
def description(pt2: Path) -> ExportMetadata:
    return load_exported(pt2).description


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "'format' is not 1"),
        ({"labels": ["a"]}, "'labels' is not a list of 2 or more strings"),
        ({"labels": [1, 2]}, "'labels' is not a list of 2 or more strings"),
        ({"model": {"task": "other"}}, "'model' is not a dict with a known task"),
        ({"any_batch": "yes"}, "'any_batch' is 'yes'"),
        ({"clip": {"num_frames": 0, "crop_px": 8}}, "clip.num_frames is 0"),
        ({"clip": None}, "cannot read"),
        ({"more": 1}, "cannot read"),
    ],
)
def test_a_description_is_checked(change: dict, message: str, pt2: Path, description: ExportMetadata) -> None:
    about = json.loads(description.to_json())
    assert read_description(json.dumps(about), pt2) == description
    with pytest.raises(FarfieldError, match=message):
        read_description(json.dumps({**about, **change}), pt2)
    with pytest.raises(FarfieldError, match="cannot read: it is nested more than 100 levels deep"):
        read_description("[" * (MAX_LEVELS + 1) + "]" * (MAX_LEVELS + 1), pt2)


@pytest.mark.slow
def test_openvino_errors_are_reported() -> None:
    from onnx import TensorProto, helper

    places = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("NoSuch", ["x"], ["y"], domain="mine")], "g", places[:1], places[1:])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    with pytest.raises(
        FarfieldError, match=r"OpenVINO cannot convert the network\. Export it as \.onnx instead\. .*mine\.NoSuch"
    ):
        openvino_model(helper.make_model(graph, opset_imports=opsets, ir_version=9), "{}")
