"""The annotation formats of `farfield data index`, by name."""

from __future__ import annotations

from typing import Literal

from farfield.curation.formats.activitynet import read_activitynet
from farfield.curation.formats.annotation_source import Format
from farfield.curation.formats.ava import read_ava
from farfield.curation.formats.charades import read_charades
from farfield.curation.formats.cvat import read_cvat
from farfield.curation.formats.diving48 import read_diving48
from farfield.curation.formats.eaf import read_eaf
from farfield.curation.formats.epic_kitchens_100 import read_epic_kitchens_100
from farfield.curation.formats.fiftyone import read_fiftyone
from farfield.curation.formats.finegym import read_finegym
from farfield.curation.formats.folders import read_folders
from farfield.curation.formats.hmdb51 import read_hmdb51
from farfield.curation.formats.jester import read_jester
from farfield.curation.formats.kinetics import read_kinetics
from farfield.curation.formats.labelstudio import read_labelstudio
from farfield.curation.formats.mmaction2 import read_mmaction2
from farfield.curation.formats.moments import read_moments
from farfield.curation.formats.pyslowfast import read_pyslowfast
from farfield.curation.formats.something_something import read_something_something
from farfield.curation.formats.table import read_table
from farfield.curation.formats.thumos14 import read_thumos14
from farfield.curation.formats.ucf101 import read_ucf101
from farfield.curation.formats.via import read_via

FORMATS: dict[str, Format] = {
    "folders": Format(read_folders, options=frozenset({"fps"})),
    "kinetics": Format(read_kinetics, "Kinetics' CSV", frozenset({"subset"})),
    "ucf101": Format(read_ucf101, "a list such as trainlist01.txt", frozenset({"labels"})),
    "hmdb51": Format(read_hmdb51, "the folder of the split files", frozenset({"split", "subset"})),
    "moments": Format(read_moments, "trainingSet.csv or validationSet.csv", frozenset({"labels"})),
    "pyslowfast": Format(read_pyslowfast, "the list of the videos", frozenset({"labels", "first_label", "fps"})),
    "mmaction2": Format(read_mmaction2, "the list of the videos", frozenset({"labels", "first_label", "fps"})),
    "something-something": Format(
        read_something_something, "a list of Something-Something, for example train.json", frozenset({"labels", "fps"})
    ),
    "jester": Format(read_jester, "a list of Jester, for example jester-v1-train.csv", frozenset({"fps"})),
    "diving48": Format(read_diving48, "a list of Diving48, for example Diving48_V2_train.json", frozenset({"labels"})),
    "finegym": Format(
        read_finegym, "a list of FineGym, for example gym99_train_element_v1.1.txt", frozenset({"labels"})
    ),
    "epic-kitchens-100": Format(
        read_epic_kitchens_100, "EPIC_100_train.csv or EPIC_100_validation.csv", frozenset({"labels", "label_column"})
    ),
    "ava": Format(read_ava),
    "activitynet": Format(read_activitynet, "ActivityNet's JSON", frozenset({"subset"})),
    "thumos14": Format(read_thumos14, "the folder of THUMOS14's or MultiTHUMOS's text files", frozenset({"subset"})),
    "charades": Format(read_charades, "Charades_v1_train.csv or Charades_v1_test.csv", frozenset({"labels", "fps"})),
    "table": Format(read_table, "a .csv, .tsv or .jsonl file", frozenset({"columns", "fps"})),
    "labelstudio": Format(
        read_labelstudio,
        "Label Studio's JSON export",
        frozenset({"fps", "label_column", "columns", "unlabelled_as_none"}),
    ),
    "cvat": Format(
        read_cvat,
        "CVAT's annotations.xml, or a folder of them",
        frozenset({"fps", "label_column", "subset", "unlabelled_as_none"}),
    ),
    "fiftyone": Format(
        read_fiftyone,
        "FiftyOne's samples.json, labels.json or manifest.json",
        frozenset({"fps", "label_column", "subset", "unlabelled_as_none"}),
    ),
    "eaf": Format(read_eaf, "ELAN's .eaf file, or a folder of them", frozenset({"label_column", "unlabelled_as_none"})),
    "via": Format(read_via, "VIA 3's project file", frozenset({"label_column"})),
}
"""Annotation formats by name."""

FormatName = Literal[
    "folders",
    "kinetics",
    "ucf101",
    "hmdb51",
    "moments",
    "pyslowfast",
    "mmaction2",
    "something-something",
    "jester",
    "diving48",
    "finegym",
    "epic-kitchens-100",
    "ava",
    "activitynet",
    "thumos14",
    "charades",
    "table",
    "labelstudio",
    "cvat",
    "fiftyone",
    "eaf",
    "via",
]
