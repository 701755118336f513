"""The lists of text: CALFW, CPLFW, SLLFW, CFP, and tables."""

from pathlib import Path

import numpy as np
import pytest

from octoscale.errors import OctoscaleError
from octoscale.evaluate.protocols import Pairs
from octoscale.evaluate.protocols.calfw import read_calfw
from octoscale.evaluate.protocols.cfp import read_cfp
from octoscale.evaluate.protocols.pairs import balanced_folds, contiguous_folds
from octoscale.evaluate.protocols.sllfw import read_sllfw
from octoscale.evaluate.protocols.table import read_table


def written(folder: Path, text: str, name: str = "list.txt") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def named(pairs: Pairs) -> list[tuple[str, str, bool]]:
    return [
        (pairs.images[a], pairs.images[b], bool(same))
        for a, b, same in zip(pairs.first, pairs.second, pairs.same, strict=True)
    ]


def calfw(per_kind: int, label: str = "{fold}") -> str:
    """`per_kind` genuine pairs in ten folds, then as many impostor pairs, as CALFW writes them."""
    lines = []
    for k in range(per_kind):
        text = label.format(fold=1 + 10 * k // per_kind)
        lines += [f"P{k}_0001.jpg {text}", f"P{k}_0002.jpg {text}"]
    for k in range(per_kind):
        lines += [f"P{k}_0001.jpg 0", f"P{k + 1}_0001.jpg 0"]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("label", ["{fold}", "1"], ids=["CALFW", "CPLFW"])
def test_calfw_and_cplfw_take_the_kinds_in_turn(tmp_path: Path, label: str) -> None:
    pairs = read_calfw(written(tmp_path, calfw(30, label)))

    assert named(pairs)[:2] == [("P0_0001", "P0_0002", True), ("P1_0001", "P1_0002", True)]
    assert named(pairs)[30] == ("P0_0001", "P1_0001", False)
    assert pairs.same.tolist() == [True] * 30 + [False] * 30
    # Three genuine and three impostor pairs a fold, in the order of the list: CALFW's own folds of the genuine ones.
    assert pairs.fold.tolist() == 2 * [k // 3 for k in range(30)]
    assert pairs.where[1].startswith("line 3 of")


def test_calfw_at_its_published_size_has_300_of_each_kind_a_fold(tmp_path: Path) -> None:
    pairs = read_calfw(written(tmp_path, calfw(3000)))

    for fold in range(10):
        assert (pairs.fold == fold).sum() == 600
        assert pairs.same[pairs.fold == fold].sum() == 300


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no pairs"),
        ("A_0001.jpg 1\n", r"list.txt has 1 lines; a pair takes two"),
        ("A_0001.jpg\nA_0002.jpg 1\n", r"line 1 of .*'A_0001.jpg'; expected 'NAME_0001.jpg LABEL'"),
        ("A_0001.jpg 1\nA_0002.jpg one\n", r"line 2 of .*expected"),
        ("A_0001.jpg 1\nA_0002.jpg 0\n", r"line 1 of .* the label 1 and the line after it 0"),
    ],
)
def test_a_malformed_calfw_list_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(OctoscaleError, match=message):
        read_calfw(written(tmp_path, text))


def sllfw(kinds: list[bool]) -> str:
    return "".join(f"A/A_{k:04d}.jpg\n{'A' if same else 'B'}/x_{k:04d}.jpg\n" for k, same in enumerate(kinds))


def test_sllfw_is_genuine_where_both_names_are_the_same(tmp_path: Path) -> None:
    pairs = read_sllfw(written(tmp_path, sllfw([True, False] * 20)))

    assert named(pairs)[:2] == [("A/A_0000", "A/x_0000", True), ("A/A_0001", "B/x_0001", False)]
    assert pairs.fold.tolist() == [k // 4 for k in range(40)]


def test_sllfw_with_one_kind_first_takes_them_in_turn(tmp_path: Path) -> None:
    pairs = read_sllfw(written(tmp_path, sllfw([True] * 10 + [False] * 10)))

    assert pairs.fold.tolist() == [*range(10), *range(10)]


def test_a_malformed_sllfw_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match=r"line 2 of .*'A_0002.jpg'; expected 'NAME/NAME_0001.jpg'"):
        read_sllfw(written(tmp_path, "A/A_0001.jpg\nA_0002.jpg\n"))


def write_cfp(folder: Path, *, folds: int = 10) -> str:
    protocol = folder / "Protocol"
    written(protocol, "".join(f"{k} ../Data/Images/{k:03d}/frontal/01.jpg\n" for k in range(1, 21)), "Pair_list_F.txt")
    written(protocol, "".join(f"{k} ../Data/Images/{k:03d}/profile/01.jpg\n" for k in range(1, 21)), "Pair_list_P.txt")
    for kind in ("FF", "FP"):
        for fold in range(1, folds + 1):
            written(protocol, f"{fold},{fold}\n{fold + 1},{fold + 1}\n", f"Split/{kind}/{fold:02d}/same.txt")
            written(protocol, f"{fold},{fold + 2}\n{fold + 2},{fold}\n", f"Split/{kind}/{fold:02d}/diff.txt")
    return str(protocol)


@pytest.mark.parametrize(("kind", "other"), [("FF", "frontal"), ("FP", "profile")])
def test_cfp_looks_its_numbers_up(tmp_path: Path, kind: str, other: str) -> None:
    pairs = read_cfp(write_cfp(tmp_path), kind)  # type: ignore[arg-type]

    assert named(pairs)[:3] == [
        ("001/frontal/01", f"001/{other}/01", True),
        ("002/frontal/01", f"002/{other}/01", True),
        ("001/frontal/01", f"003/{other}/01", False),
    ]
    assert pairs.fold.tolist() == [k // 4 for k in range(40)]
    assert pairs.where[2].startswith("line 1 of")
    assert pairs.where[2].endswith(f"Split/{kind}/01/diff.txt")


def test_a_folder_without_cfps_folds_is_refused(tmp_path: Path) -> None:
    folder = write_cfp(tmp_path, folds=0)

    with pytest.raises(OctoscaleError, match="holds 0 folds; give CFP's folder Protocol"):
        read_cfp(folder, "FF")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("Split/FP/02/same.txt", "1;2\n", r"line 1 of .*FP/02/same.txt is '1;2'; expected two numbers"),
        ("Split/FP/02/diff.txt", "1,1\n1,21\n", r"line 2 of .*there are images 1…20 and 1…20"),
        (
            "Pair_list_F.txt",
            "1 001/frontal/01.jpg\n1 001/frontal/02.jpg\n",
            r"line 2 of .*Pair_list_F.txt has the number 1 a second time",
        ),
        ("Pair_list_P.txt", "1 a.jpg\n", r"line 1 of .*Pair_list_P.txt is '1 a.jpg'; expected 'NUMBER"),
    ],
)
def test_a_malformed_cfp_file_is_refused_with_its_line(tmp_path: Path, file: str, text: str, message: str) -> None:
    folder = write_cfp(tmp_path)
    written(Path(folder), text, file)

    with pytest.raises(OctoscaleError, match=message):
        read_cfp(folder, "FP")


@pytest.mark.parametrize("first", ["a/1.jpg,a/2.jpg,2", "a/1,a/2,tru", "a.jpg\tb.jpg\tgenuin"])
def test_a_mistyped_label_on_the_first_line_is_no_heading(tmp_path: Path, first: str) -> None:
    rest = "".join("\t".join(row) + "\n" for row in TABLE)

    with pytest.raises(OctoscaleError, match=r"line 1 of .*; expected FIRST, SECOND, LABEL .* or on line 1 a heading"):
        read_table(written(tmp_path, f"{first}\n{rest}"))


@pytest.mark.parametrize("third", ["label", "Label", "same", "is_same", "issame", "matched", "class", "y"])
def test_what_a_heading_may_be(tmp_path: Path, third: str) -> None:
    rest = "".join(",".join(row) + "\n" for row in TABLE)

    assert len(read_table(written(tmp_path, f"first,second,{third}\n{rest}")).same) == len(TABLE)


TABLE = [("a/1.jpg", "a/2.jpg", "1"), ("a/1.jpg", "b/1.jpg", "0")] * 10


@pytest.mark.parametrize("separator", [",", "\t", " ", ", "])
@pytest.mark.parametrize("heading", [True, False])
def test_a_table_may_be_divided_by_commas_tabs_or_spaces(tmp_path: Path, separator: str, heading: bool) -> None:
    lines = [("first", "second", "same")] * heading + TABLE

    pairs = read_table(written(tmp_path, "".join(separator.join(line) + "\n" for line in lines)))

    assert named(pairs)[:2] == [("a/1", "a/2", True), ("a/1", "b/1", False)]
    assert pairs.images == ("a/1", "a/2", "b/1")
    assert pairs.fold.tolist() == [k // 2 for k in range(20)]


@pytest.mark.parametrize(("genuine", "impostor"), [("1", "-1"), ("True", "False"), ("genuine", "impostor")])
def test_a_table_may_name_the_kinds(tmp_path: Path, genuine: str, impostor: str) -> None:
    pairs = read_table(written(tmp_path, f"a.jpg,b.jpg,{genuine}\na.jpg,c.jpg,{impostor}\n" * 10))

    assert pairs.same.tolist() == [True, False] * 10


def test_a_table_may_have_folds(tmp_path: Path) -> None:
    text = "first,second,same,fold\na,b,1,x\na,c,0,y\na,b,1,y\na,d,0,x\n"

    assert read_table(written(tmp_path, text)).fold.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,1\na,b\n", r"line 2 of .*'a,b'; expected FIRST, SECOND, LABEL"),
        ("a,b,1\na,b,maybe\n", r"line 2 of .*expected"),
        ("a,b,1,1\na,c,0\n", r"line 2 of .* has no fold"),
        ("a,b,1,1\na,c,0,1\n", r"has only one fold"),
        ("first,second,same\n", "lists no pairs"),
    ],
)
def test_a_malformed_table_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(OctoscaleError, match=message):
        read_table(written(tmp_path, text))


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        # Without the other kind any threshold is as good, and the accuracy would be 0.
        (("1,a", "0,b"), "genuine pairs in 1 of its 2 folds"),
        (("1,a", "1,b", "0,b"), "impostor pairs in 1 of its 2 folds"),
        (("1,a", "1,b"), "impostor pairs in 0 of its 2 folds"),
    ],
)
def test_a_kind_of_pairs_in_one_fold_alone_is_refused(tmp_path: Path, folds: tuple[str, ...], message: str) -> None:
    text = "".join(f"a{k}.jpg,b{k}.jpg,{fold}\n" for k, fold in enumerate(folds))
    with pytest.raises(OctoscaleError, match=message):
        read_table(written(tmp_path, text))


def test_contiguous_folds_are_those_of_scikit_learn() -> None:
    from sklearn.model_selection import KFold

    for count in (10, 23, 6000):
        for number, (_, held_out) in enumerate(KFold(10, shuffle=False).split(range(count))):
            assert (contiguous_folds(count)[held_out] == number).all()


def test_balanced_folds_share_what_does_not_divide() -> None:
    same = np.array([True] * 13 + [False] * 12)

    fold = balanced_folds(same)

    assert np.bincount(fold[same]).tolist() == [2, 2, 2, 1, 1, 1, 1, 1, 1, 1]
    assert np.bincount(fold[~same]).tolist() == [2, 2, 1, 1, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(("genuine", "impostor"), [(3000, 3000), (600, 6000), (6000, 600)])
def test_balanced_folds_have_a_contiguous_tenth_of_either_kind(genuine: int, impostor: int) -> None:
    """In whatever order the kinds stand."""
    in_order = np.array([True] * genuine + [False] * impostor)
    for same in (in_order, ~in_order[::-1], np.random.default_rng(3).permutation(in_order)):
        fold = balanced_folds(same)
        for kind in (same, ~same):
            assert fold[kind].tolist() == np.repeat(np.arange(10), kind.sum() // 10).tolist()


def test_too_few_pairs_of_a_kind_make_no_folds(tmp_path: Path) -> None:
    lines = [f"a,b{k},{label}\n" for label, count in ((1, 9), (0, 12)) for k in range(count)]
    with pytest.raises(OctoscaleError, match="lists 9 genuine and 12 impostor pairs without folds; 10 folds take 10"):
        read_table(written(tmp_path, "".join(lines)))
