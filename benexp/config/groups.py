"""The config groups and their choices, read from the files under conf/."""

from pathlib import Path


def conf_folder() -> Path:
    """The folder `conf`: inside the installed package, or at the top of a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def groups() -> dict[str, list[str]]:
    """The config groups and their choices, both sorted."""
    folders = sorted(path for path in conf_folder().iterdir() if path.is_dir() and path.name[0].isalpha())
    return {folder.name: sorted(file.stem for file in folder.glob("*.yaml")) for folder in folders}
