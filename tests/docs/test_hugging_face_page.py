"""The arguments of `transformers` that docs/coming_from/hugging_face.md names exist in the installed release."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from typing import Any

import pytest

from docs.markdown_blocks import blocks, texts

PAGE = "docs/coming_from/hugging_face.md"
INPUTS = {"pixel_values"}
"""Names in the table that are inputs of the networks."""

pytestmark = [pytest.mark.slow, pytest.mark.dependency]


@pytest.fixture(scope="module")
def training_arguments() -> set[str]:
    transformers: Any = pytest.importorskip("transformers")
    return {field.name for field in dataclasses.fields(transformers.TrainingArguments) if field.init}


def named() -> list[str]:
    """Return the names in the first column of the page's table of arguments."""
    page = texts(PAGE)
    (start,) = (row for row, text in enumerate(page) if text.content == "Arguments and keys")
    (end,) = (row for row, text in enumerate(page) if text.content == "Lists")
    return [re.split("[=:]", span.code)[0] for text in page[start:end] for span in text.spans if not span.ours]


def test_the_arguments_exist(training_arguments: set[str]) -> None:
    from transformers import VideoMAEConfig, VideoMAEImageProcessor
    from transformers.pipelines.video_classification import VideoClassificationPipeline

    known = training_arguments | INPUTS | {*inspect.signature(VideoClassificationPipeline.preprocess).parameters}
    known |= {*dir(VideoMAEConfig()), *dir(VideoMAEImageProcessor)}
    assert len(named()) > 15
    assert [name for name in named() if name not in known] == []


def test_the_training_takes_its_keywords(training_arguments: set[str]) -> None:
    calls = [
        node
        for block in blocks(PAGE)
        if not block.ours
        for node in ast.walk(ast.parse(block.code))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "TrainingArguments"
    ]
    keywords = {keyword.arg for call in calls for keyword in call.keywords}
    assert len(keywords) > 2
    assert keywords - training_arguments == set()
