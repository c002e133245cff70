"""Copy the recipes of configs/ into the built package, and write its description. Everything else is in pyproject.toml.

The recipes become farfield/configs. Not by `package-dir`, which would need a list of all packages, and would make
editable installs use an import hook that type checkers and editors cannot follow.
"""

import re
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    """Build step that also copies the recipes; an editable install reads configs/ itself."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            shutil.rmtree(Path(self.build_lib, "farfield", "configs"), ignore_errors=True)  # of an earlier build
            for target, source in self._recipes().items():
                self.mkpath(str(Path(target).parent))
                self.copy_file(source, target)

    def get_source_files(self) -> list[str]:  # contents of an sdist
        return [*super().get_source_files(), *self._recipes().values()]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), *self._recipes()]

    def get_output_mapping(self) -> dict[str, str]:  # links of a strict editable install
        return {**super().get_output_mapping(), **self._recipes()}

    def _recipes(self) -> dict[str, str]:
        """Map each recipe's path in the build to its source."""
        sources = sorted(Path("configs").rglob("*.yaml"))
        return {str(Path(self.build_lib, "farfield", source)): str(source) for source in sources}


def description() -> str:
    """Return README.md as a package index can show it, where the repository's other files are not.

    Parts that need them are left out, and links to them are text.
    """
    text = Path("README.md").read_text(encoding="utf-8")
    text = re.sub(r"<!-- repository only -->\n.*?<!-- end -->\n+", "", text, flags=re.DOTALL)
    return re.sub(r"\[([^]]*)\]\((?!https?:)[^)]*\)", r"\1", text)


setup(
    cmdclass={"build_py": BuildWithRecipes},
    long_description=description(),
    long_description_content_type="text/markdown",
)
