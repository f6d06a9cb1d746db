"""Writes the printed pages of the manual: `python -m tests.cli.manual` after a command or a setting has changed."""

from pathlib import Path

from waypost.__main__ import program
from waypost.admin.manpage import config_man_page, man_page, markdown
from waypost.config import reference

DOCS = Path(__file__).parents[2] / "docs"


def pages() -> dict[Path, str]:
    """Each file, and the text that belongs there."""
    app = program()
    return {
        DOCS / "reference" / "cli.md": markdown(app),
        DOCS / "man" / "waypost.1": man_page(app),
        DOCS / "man" / "waypost.toml.5": config_man_page(reference()),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
