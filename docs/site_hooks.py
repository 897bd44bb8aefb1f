"""What MkDocs asks this project for: pages that lie beside docs/, and links that lead out of it."""

import re
from pathlib import Path

from mkdocs.structure.files import File

HOME = Path(__file__).resolve().parent.parent
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_files(files, config):
    """Add the pages of the project's root, as if they lay in docs/."""
    for source, page in PAGES.items():
        text = (HOME / source).read_text(encoding="utf-8")
        for name, other in PAGES.items():
            text = text.replace(f"]({name}", f"]({other}")
        files.append(File.generated(config, page, content=text.replace("](docs/", "](")))
    return files


def on_page_markdown(markdown, page, config, files):
    """Return the page, its links to files outside docs/ as plain text, those to the root's pages as links to these."""
    up = "../" * (page.file.src_uri.count("/") + 1)
    for source, name in PAGES.items():
        markdown = markdown.replace(f"]({up}{source}", f"]({up[3:]}{name}")
    outside = re.compile(rf"\[([^\]]*)\]\({re.escape(up)}[^)]*\)")
    root = re.compile(r"\[([^\]]*)\]\((?:CITATION\.cff|studies/|benchmarks/|kdq/|rules/)[^)]*\)")
    markdown = outside.sub(r"\1", markdown)
    return root.sub(r"\1", markdown) if page.file.src_uri in PAGES.values() else markdown
