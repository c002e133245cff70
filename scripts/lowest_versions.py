"""List the installed version of each requirement of farfield, and say which are above the lowest that is allowed."""

from __future__ import annotations

from importlib.metadata import requires, version

from packaging.requirements import Requirement
from packaging.version import Version


def main() -> None:
    for requirement in map(Requirement, requires("farfield") or []):
        if requirement.name == "farfield":
            continue
        lowest = next(Version(each.version) for each in requirement.specifier if each.operator == ">=")
        installed = Version(version(requirement.name))
        above = Version(installed.public) > lowest
        print(f"{requirement.name} {installed}" + (f": {lowest} cannot be installed here" if above else ""))


if __name__ == "__main__":
    main()
