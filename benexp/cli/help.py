"""The text of `benexp --help`, made from the files under conf/ without imports of Hydra."""

from benexp.config.groups import conf_folder, groups


def help_text() -> str:
    """The synopsis, the groups with their choices, the top keys with their comments, and examples."""
    width = max(map(len, groups()))
    choices = "\n".join(f"  {group:<{width}}  {_wrapped(names, width + 4)}" for group, names in groups().items())
    return f"""\
benexp classifies whole Sentinel-2 tiles with BigEarthNet v2.0 models.

  benexp tile_folder=PATH output_folder=DIR [key=value ...]

PATH is a .SAFE folder or zip, a folder of band files, or a BigEarthNet patch; results go to DIR/<tile>/.

Groups and their choices (group=choice):
{choices}

Keys (key=value):
{_top_keys()}
  and those inside the groups, such as chunking.stride=30 or backend.batch_size=64.

Examples:
  benexp experiment=demo
  benexp tile_folder=S2B_MSIL2A_20220413T150759_N0400_R025_T33XWJ_20220414T082126.SAFE output_folder=maps
  benexp tile_folder=tile.zip output_folder=maps backend=torch layers=full 'mask.scl=[0,1,3,8,9,10]'

More: --cfg job shows the composed configuration, -m sweeps over key=a,b,c, --hydra-help lists what else Hydra takes."""


def _wrapped(names: list[str], indent: int, width: int = 110) -> str:
    lines = [""]
    for name in names:
        if lines[-1] and indent + len(lines[-1]) + len(name) + 1 > width:
            lines.append("")
        lines[-1] += f" {name}" if lines[-1] else name
    return ("\n" + " " * indent).join(lines)


def _top_keys() -> str:
    """The top keys of config.yaml under the comments that explain them."""
    lines = (conf_folder() / "config.yaml").read_text(encoding="utf-8").split("\nhydra:")[0].splitlines()
    body = lines[next(i for i, line in enumerate(lines) if not line and i) :]
    return "\n".join(f"  {line}" for line in body if line)
