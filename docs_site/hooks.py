"""What the site has beside the pages of docs/, for MkDocs: the README as its first page, the changelog, and a page for
each source that a page points to. The documents themselves stay as they are read in the repository.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}
"""Documents at the root, and the pages that they become."""

LINK = re.compile(r"\[(?P<text>[^\]\n]*)\]\((?P<to>[^)#:\s]+)(?P<anchor>#[^)]*)?\)")
LANGUAGES = {".py": "python", ".c": "c", ".asm": "nasm", ".inc": "nasm"}


def page_of(path: str) -> str:
    """The page for a file of the repository, by its path from the root."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return PAGES.get(path) or (f"source/{path}" if path.endswith(".md") else f"source/{path}.md")


def target(document: str, link: str) -> str:
    """Where a link of a document leads, both from the root."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(document), link))


def sources(document: str, text: str) -> set[str]:
    """The files outside docs/ that a document points to."""
    paths = {target(document, found["to"]) for found in LINK.finditer(text)}
    return {path for path in paths if not path.startswith("docs/") and (ROOT / path).is_file()}


def relinked(document: str, text: str) -> str:
    """The text of a document as that of its page: links lead to pages, and those to folders to nothing."""
    here = posixpath.dirname(page_of(document)) or "."

    def instead(found: re.Match[str]) -> str:
        path = target(document, found["to"])
        if (ROOT / path).is_dir():
            return found["text"]
        if not path.startswith("docs/") and not (ROOT / path).is_file():
            return found[0]  # which the strict build complains about
        return f"[{found['text']}]({posixpath.relpath(page_of(path), here)}{found['anchor'] or ''})"

    return LINK.sub(instead, text)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are no files of docs/: those that others point to are not in the navigation."""
    for path in sorted(_wanted((f"docs/{file.src_uri}", file.content_string) for file in files.documentation_pages())):
        file = File.generated(config, page_of(path), content=_page(path))
        if path not in PAGES:
            file.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(file)
    return files


def _wanted(documents: Iterable[tuple[str, str]]) -> set[str]:
    wanted = set(PAGES).union(*(sources(path, text) for path, text in documents))
    looked: set[str] = set()
    while new := {path for path in wanted - looked if path.endswith(".md")}:
        looked |= new
        wanted |= set().union(*(sources(path, (ROOT / path).read_text()) for path in new))
    return wanted


def _page(path: str) -> str:
    text = (ROOT / path).read_text()
    if path.endswith(".md"):
        return relinked(path, text)
    language = LANGUAGES.get(Path(path).suffix, "text")
    return f"---\nsearch: {{exclude: true}}\n---\n\n# {path}\n\n````{language}\n{text}````\n"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Have links of docs/ that leave it lead to the pages of what they point to."""
    if page.file.generated_by is not None:
        return markdown
    return relinked(f"docs/{page.file.src_uri}", markdown)
