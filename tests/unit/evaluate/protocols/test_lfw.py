"""LFW's and XQLFW's list of pairs."""

from pathlib import Path

import pytest

from octoscale.errors import OctoscaleError
from octoscale.evaluate.protocols import Pairs
from octoscale.evaluate.protocols.lfw import read_lfw

TWO_FOLDS = "2\t1\nAda\t1\t2\nAda\t1\tBob\t3\nBob\t3\t12\nAda\t2\tCy\t1\n"


def written(folder: Path, text: str) -> str:
    path = folder / "pairs.txt"
    path.write_text(text)
    return str(path)


@pytest.fixture
def pairs(tmp_path: Path) -> Pairs:
    return read_lfw(written(tmp_path, TWO_FOLDS))


def test_folds_alternate_genuine_and_impostor_pairs(pairs: Pairs) -> None:
    assert pairs.fold.tolist() == [0, 0, 1, 1]
    assert pairs.same.tolist() == [True, False, True, False]
    assert [(pairs.images[a], pairs.images[b]) for a, b in zip(pairs.first, pairs.second, strict=True)] == [
        ("Ada/Ada_0001", "Ada/Ada_0002"),
        ("Ada/Ada_0001", "Bob/Bob_0003"),
        ("Bob/Bob_0003", "Bob/Bob_0012"),
        ("Ada/Ada_0002", "Cy/Cy_0001"),
    ]


def test_each_image_is_listed_once(pairs: Pairs) -> None:
    assert pairs.images == ("Ada/Ada_0001", "Ada/Ada_0002", "Bob/Bob_0003", "Bob/Bob_0012", "Cy/Cy_0001")


def test_each_pair_knows_its_line(pairs: Pairs) -> None:
    assert [where.split(" of ")[0] for where in pairs.where] == ["line 2", "line 3", "line 4", "line 5"]


def test_a_header_of_one_number_is_cut_into_ten_folds_of_both_kinds(tmp_path: Path) -> None:
    genuine = [f"Ada\t{i}\t{i + 1}\n" for i in range(10)]
    impostors = [f"Ada\t{i}\tBob\t{i}\n" for i in range(10)]

    pairs = read_lfw(written(tmp_path, "".join(["10\n", *genuine, *impostors])))

    assert pairs.same.tolist() == [True] * 10 + [False] * 10
    assert pairs.fold.tolist() == [*range(10), *range(10)]


def test_a_list_too_short_for_ten_folds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match="lists 1 genuine and 1 impostor pairs without folds; 10 folds take 10"):
        read_lfw(written(tmp_path, "1\nAda\t1\t2\nAda\t1\tBob\t1\n"))


def test_windows_line_ends_and_a_relative_path_are_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pairs.txt").write_bytes(TWO_FOLDS.replace("\n", "\r\n").encode())
    monkeypatch.chdir(tmp_path)

    assert len(read_lfw("pairs.txt")) == 4


@pytest.mark.parametrize(
    "text",
    [
        TWO_FOLDS.replace("\t", " "),
        TWO_FOLDS.replace("\t", " ", 1),
        TWO_FOLDS.replace("\n", " \n"),
        TWO_FOLDS.replace("\nBob", "\n\nBob"),
    ],
    ids=["spaces", "spaces in the header", "spaces at the ends", "an empty line"],
)
def test_copies_with_other_blanks_are_the_same_list(tmp_path: Path, pairs: Pairs, text: str) -> None:
    copy = read_lfw(written(tmp_path, text))

    assert (copy.images, copy.same.tolist()) == (pairs.images, pairs.same.tolist())
    assert copy.first.tolist() == pairs.first.tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"line 1 of .*pairs.txt is ''; expected 'FOLDS<tab>PAIRS'"),
        ("ten\t300\n", r"line 1 of .*'ten\\t300'; expected"),
        ("2\t0\n", r"line 1 of .*expected"),
        (TWO_FOLDS.replace("Ada\t1\tBob\t3", "Ada\t1\t3"), r"line 3 of .*'Ada\\t1\\t3'; expected the impostor pair"),
        (TWO_FOLDS.replace("Bob\t3\t12", "Bob\t3\tx"), r"line 4 of .*expected the genuine pair 'NAME<tab>i<tab>j'"),
        (TWO_FOLDS.replace("Bob\t3\t12", "Bob 3\t12"), r"line 4 of .*expected the genuine pair"),
        (f"9\t{10**8}\n", r"has 0 lines after the first; .* promises 1800000000"),
        (f"10\t{10**12}\n", r"line 1 of .*expected"),
        (TWO_FOLDS + "Cy\t1\t2\n", r"has 5 lines after the first; .*'2\\t1' promises 4"),
        ("10\t300\nAda\t1\t2\n", r"has 1 lines after the first; .*promises 6000"),
    ],
)
def test_a_malformed_list_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(OctoscaleError, match=message):
        read_lfw(written(tmp_path, text))


def test_a_list_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(OctoscaleError, match="is not UTF-8 text"):
        read_lfw(str(tmp_path / "pairs.txt"))


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match=r"absent\.txt"):
        read_lfw(str(tmp_path / "absent.txt"))
