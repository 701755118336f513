"""The page as a whole: complete, self-contained, safe, and written whole or not at all."""

import os
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from octoscale.errors import OctoscaleError
from octoscale.report.items import Table
from octoscale.report.page import destination_of, render_page, sections_of
from octoscale.report.runs import Run
from tests.unit.commands import Octoscale, refused
from tests.unit.report.made_up import evaluation, made_up_run

VOID = {"meta", "link", "img"}
HOSTILE = "</title><script>alert('$x_1$')</script>&amp;\"'<img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """The elements of a page, and the text of its tables' cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.text = ""
        self.feed(page)
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("th", "td"):
            self.tables[-1][-1][-1] += data

    def values(self, name: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(name)) is not None]


def flat(tables: list[Table]) -> list[list[list[str]]]:
    return [[list(table.columns), *map(list, table.rows)] for table in tables]


@pytest.fixture(scope="module", params=[1, 2])
def runs(request: pytest.FixtureRequest) -> list[Run]:
    """One run on two data sets, or two of them."""
    evaluations = {name: (evaluation(0, accuracy=0.6), evaluation(4)) for name in ("lfw", "xqlfw")}
    return [made_up_run(name, evaluations=evaluations) for name in "ab"[: request.param]]


@pytest.fixture(scope="module")
def text(runs: list[Run]) -> str:
    return render_page(runs)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_every_chart_has_its_numbers_as_a_table(runs: list[Run], page: Page) -> None:
    items = [item for section in sections_of(runs) for item in section.items]
    charts = [item for item in items if item.kind == "chart"]
    tables = [item.table() if item.kind == "chart" else item for item in items if item.kind in ("chart", "table")]
    assert len(charts) > 15
    assert page.tables == flat([table for table in tables if isinstance(table, Table)])
    labels = [attributes["aria-label"] for tag, attributes in page.elements if tag == "svg"]
    assert labels == [f"{chart.title}. {chart.alt()}" for chart in charts]


def test_the_page_needs_nothing_else(page: Page) -> None:
    assert not {"script", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.elements}
    for value in page.values("src") + page.values("href"):
        assert value.startswith(("data:", "#")), value
    assert not re.search(r"url\((?!#chart-)", "".join(page.values("style")))
    assert "@import" not in page.text
    policy = next(attributes for tag, attributes in page.elements if "http-equiv" in attributes)
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_every_picture_is_told_in_words_and_every_id_is_there_once(page: Page) -> None:
    pictures = [attributes for tag, attributes in page.elements if tag in ("svg", "img")]
    assert pictures
    assert all(attributes.get("aria-label") or attributes.get("alt") for attributes in pictures)
    ids = page.values("id")
    assert len(set(ids)) == len(ids)
    assert {value[1:] for value in page.values("href") if value.startswith("#")} <= set(ids)


def test_hostile_names_are_text() -> None:
    hostile: dict[str, Any] = {
        "name": HOSTILE,
        "values": {"global_batch_size": 16, "steps": 4, HOSTILE: HOSTILE},
        "evaluations": {HOSTILE: (evaluation(0), evaluation(4))},
        "lines": (),
        "record": {"versions": {HOSTILE: HOSTILE}, "ledger": {"seconds": {HOSTILE: 1.0}}},
        "problems": (HOSTILE,),
    }
    page = Page(render_page([replace(made_up_run(), **hostile)]))

    assert "script" not in {tag for tag, _ in page.elements}
    assert not page.values("onerror")
    assert all(value != "x" for value in page.values("src"))
    assert page.text.count(HOSTILE) > 10


def test_both_schemes_have_every_colour_that_is_used(text: str) -> None:
    light, dark = (set(re.findall(r"--([a-z0-9-]+):", block)) for block in re.findall(r":root \{([^}]*)\}", text))
    used = set(re.findall(r"var\(--([a-z0-9-]+)\)", text))
    assert used <= light == dark


def test_the_command_writes_one_page_of_a_real_run(call: Octoscale, trained_run: Path, tmp_path: Path) -> None:
    answer = call("report", trained_run, "--output", tmp_path / "new folder/page.html")

    assert (answer.code, answer.out) == (0, f"wrote {tmp_path}/new folder/page.html\n")
    (path,) = (tmp_path / "new folder").iterdir()
    assert 100_000 < path.stat().st_size < 5_000_000
    page = Page(path.read_text())
    pictures = [attributes["alt"] for tag, attributes in page.elements if tag == "img"]
    assert len(pictures) == 1 + 6 * 8
    assert "left out" in page.text  # the ledger


@pytest.fixture
def fresh_run(trained_run: Path, tmp_path: Path) -> Path:
    """A run that has not done a step."""
    (tmp_path / "fresh").mkdir()
    return Path(shutil.copy(trained_run / "config.yaml", tmp_path / "fresh")).parent


def test_the_command_compares_runs(call: Octoscale, fresh_run: Path, tmp_path: Path) -> None:
    shutil.copytree(fresh_run, tmp_path / "other")

    assert call("report", fresh_run, tmp_path / "other", "--output", tmp_path / "page.html").code == 0

    page = Page((tmp_path / "page.html").read_text())
    assert page.tables[0][0] == ["", "fresh", "other"]
    assert page.text.count("left out") > 10


def test_what_is_no_run_is_one_clear_message_and_no_page(call: Octoscale, trained_run: Path, tmp_path: Path) -> None:
    page = tmp_path / "out/page.html"

    refused(call("report", trained_run, tmp_path / "absent", "--output", page), "absent holds no config.yaml")

    assert list(tmp_path.glob("out/*")) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_refused(call: Octoscale, trained_run: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    refused(call("report", trained_run, "--output", tmp_path / "page.html"), tmp_path)


def test_an_output_below_a_file_is_refused(call: Octoscale, trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    refused(call("report", trained_run, "--output", tmp_path / "file/page.html"), "file")


@pytest.mark.parametrize("output", [".", "./", "s3://bucket/", "{tmp_path}"])
def test_an_output_that_is_a_folder_is_refused(output: str, tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match="is a folder; give the name of a file"):
        destination_of(output.format(tmp_path=tmp_path))


@pytest.mark.parametrize(
    ("output", "folder", "name"),
    [("page.html", ".", "page.html"), ("/page.html", "/", "page.html"), ("a/b.html", "a", "b.html"),
     ("s3://bucket/a/b.html", "s3://bucket/a", "b.html")],
)  # fmt: skip
def test_the_folder_and_the_name_of_an_output(output: str, folder: str, name: str) -> None:
    store, found = destination_of(output)

    assert (store.url, found) == (folder, name)


def test_a_write_that_fails_leaves_the_old_page(
    call: Octoscale, fresh_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "out/page.html"
    page.parent.mkdir()
    page.write_text("the old one")
    written = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if len(data) < 100:
            return written(path, data)
        written(path, data[:1000])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)

    refused(call("report", fresh_run, "--output", page), "No space left")

    assert page.read_text() == "the old one"
    assert list(page.parent.iterdir()) == [page]
