"""The site of the docs: it builds without a warning, lists everything public, and loads nothing from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from docs_site.option_help import parse_help, read_help, readable_type
from mkdocs.commands.build import build
from mkdocs.config import load_config

import farfield
from farfield import layers
from farfield.cli import COMMANDS
from farfield.clip_spec import ClipOptions
from farfield.commands.predict import predict
from farfield.options.jsonargparse_compat import option_names
from farfield.options.parser import CommandParser
from farfield.recipes import list_recipes
from farfield.training.config import TrainingRun, make_run

REPOSITORY = Path(__file__).parents[2]
LOADS = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("video", "src"), ("img", "srcset")}


class Page(HTMLParser):
    """What the tests need of a page: its anchors, what it loads, its links, headings and pictures."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.loads: list[str] = []
        self.headings: list[int] = []
        self.pictures: list[str] = []
        self.styles: list[str] = []
        self.in_style = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.in_style = tag == "style"
        if "id" in values:
            self.anchors.add(values["id"])
        self.loads += [value for name, value in values.items() if (tag, name) in LOADS]
        if tag == "link" and values.get("rel") not in ("canonical", "prev", "next"):
            self.loads.append(values["href"])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "img":
            self.pictures.append(values.get("alt", ""))

    def handle_data(self, data: str) -> None:
        if self.in_style:
            self.styles.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built once in strict mode: a dead link, a dead anchor or a page outside of the navigation fails.

    In this process, which has imported PyTorch.
    """
    out = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        build(load_config("mkdocs.yml", strict=True, site_dir=str(out)))
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    """Pages by path below the site."""
    return {path.relative_to(site).as_posix(): Page(path) for path in sorted(site.rglob("*.html"))}


def is_outside(address: str) -> bool:
    return bool(urlsplit(address).netloc)


@pytest.mark.slow
def test_loads_nothing_from_elsewhere(site: Path, pages: dict[str, Page]) -> None:
    assert {name: outside for name, page in pages.items() if (outside := list(filter(is_outside, page.loads)))} == {}
    styles = {name: "\n".join(page.styles) for name, page in pages.items()}
    styles |= {str(path): path.read_text(encoding="utf-8") for path in site.rglob("*.css")}
    for name, style in styles.items():
        wanted = re.findall(r"@import\s*(?:url\()?[\"']?([^\"');]+)|url\(\s*[\"']?((?!data:)[^\"')]+)", style)
        assert not [each for pair in wanted for each in pair if is_outside(each)], name
    assert (site / "search/search_index.json").is_file()


@pytest.mark.slow
def test_every_public_name_has_an_entry(pages: dict[str, Page]) -> None:
    anchors = {
        anchor for name, page in pages.items() if name.startswith("reference/python/") for anchor in page.anchors
    }
    public = {f"farfield.{name}" for name in farfield.__all__} | {f"farfield.layers.{name}" for name in layers.__all__}
    assert public - anchors == set()


@pytest.mark.slow
def test_every_command_and_every_recipe_has_a_page(pages: dict[str, Page]) -> None:
    for name in COMMANDS:
        assert f"reference/commands/{name.replace(' ', '_')}/index.html" in pages
    assert {recipe.name.replace("/", "-") for recipe in list_recipes()} <= pages["reference/recipes/index.html"].anchors


@pytest.mark.slow
def test_every_config_key_has_an_entry(pages: dict[str, Page]) -> None:
    anchors = {
        anchor for name, page in pages.items() if name.startswith("reference/config/") for anchor in page.anchors
    }
    groups = {"trainer", "model", "data", "wandb", "report"}
    linked = {"clip", "labels", "seed", "task", "class_counts", "num_training_videos", "teacher_clip"}
    linked = {f"data.{name}" for name in linked} | {"model.labels", "model.class_counts", "model.num_training_videos"}
    linked -= {"data.labels"}  # the others follow from other keys, and cannot be set
    keys = {
        name
        for name in training_options()
        if name not in groups and not re.search(r"^(model\.(optimisation|execution|loss)|data\.augmentation)$", name)
    }
    assert len(keys) > 100
    assert keys - anchors - linked == set()


def training_options() -> list[str]:
    class Found(Exception):
        pass

    def stop(self: TrainingRun, parser: CommandParser, args: object) -> None:
        raise Found(option_names(parser))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingRun, "parse_arguments", stop)
        with pytest.raises(Found) as found:
            make_run([])
    return found.value.args[0]


@pytest.mark.slow
def test_every_option_of_predict_is_on_its_page(pages: dict[str, Page]) -> None:
    options = set(predict.__annotations__) - {"return"}
    assert len(options) > 40
    assert options <= pages["reference/commands/predict/index.html"].anchors


@pytest.mark.slow
def test_formulas_are_shown_without_a_script(site: Path) -> None:
    page = (site / "notebooks/1_batch_norm/index.html").read_text(encoding="utf-8")
    assert page.count("<math") >= 15
    assert "arithmatex" not in page
    assert not re.search(r"\\[(\[]\\(gamma|frac)", page)  # neither in the table of contents


@pytest.mark.slow
def test_pages_can_be_read_aloud(pages: dict[str, Page]) -> None:
    """Each page has one title, and each picture a text in its place."""
    for name, page in pages.items():
        assert page.headings.count(1) == 1, name
        assert all(page.pictures), name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["README.md", "README.zh.md", "CONTRIBUTING.md"])
def test_links_of_the_repository_lead_somewhere(name: str, pages: dict[str, Page]) -> None:
    """Links to files of the repository, and to anchors of pages of docs/ or of the file itself."""
    path = REPOSITORY / name
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    own = {
        re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)", text, re.M)
    } | set(re.findall(r'<a (?:id|name)="([^"]+)"', text))
    for link in re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", text):
        target, _, anchor = unquote("".join(link)).partition("#")
        if urlsplit(target).scheme:
            continue
        assert not target or (REPOSITORY / target).exists(), link
        if anchor and not target:
            assert anchor in own, link
        elif anchor and target.startswith("docs/") and target.endswith(".md"):
            page = target.removeprefix("docs/").removesuffix(".md").removesuffix("index").rstrip("/")
            assert anchor in pages[f"{page}/index.html".lstrip("/")].anchors, link


@pytest.mark.slow
@pytest.mark.parametrize(("command", "option"), [("fit", "model.clip"), ("convert", "clip")])
def test_each_key_of_a_clip_has_a_help_text(command: str, option: str) -> None:
    texts = {each.name: each.text for each in read_help(command, f"--{option}.help").options}
    assert texts.keys() == {f"{option}.{name}" for name in ClipOptions.__annotations__}
    assert [name for name, text in texts.items() if len(text.split()) < 5] == []
    assert texts[f"{option}.frame_stride"].startswith("distance between consecutive frames of a clip")


def test_reads_the_help_of_a_command() -> None:
    text = (
        "usage: farfield x [--kind {a,b}] file\n\nDo it.\n\npositional arguments:\n"
        "  {one,two}             what to do. (required, type: Literal['one', 'two'])\n\noptions:\n"
        "  -h, --help            Show this help message and exit.\n"
        "  --kind {a,b}          kind (type: of thing). (type: Optional[Literal['a', 'b']], default: null)\n"
        "  --scale [ITEM,...]\n                        two numbers. (type: tuple[float, float], default: (0.25, 1.0))\n"
    )
    found = parse_help(text, ["file"])
    assert found.description == "Do it."
    file, kind, scale = found.options
    assert (file.name, file.positional, file.required, file.type, file.default) == (
        "file",
        True,
        True,
        "one | two",
        None,
    )
    assert (kind.name, kind.type, kind.default, kind.text) == ("kind", "a | b | null", "null", "kind (type: of thing).")
    assert (scale.type, scale.default) == ("tuple[float, float]", "(0.25, 1.0)")
    assert readable_type("Union[one or more int, str, null]") == "list[int] | str | null"
