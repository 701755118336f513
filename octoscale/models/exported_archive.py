"""What is in an archive of torch.export (.pt2); loading one with parts that are pickles would run code in it."""

import ast
import io
import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from octoscale.errors import OctoscaleError
from octoscale.models.archive import Archive, open_archive

_PROGRAM = "models/model.json"
_WEIGHTS = "data/weights/model_weights_config.json"
_CONSTANTS = "data/constants/model_constants_config.json"
_INPUTS = "data/sample_inputs/model.pt"
# All that torch.export.save writes of a network whose tensors are plain. Other parts are pickles of objects, compiled
# libraries, or what PyTorch up to 2.8 wrote.
_PLAIN = re.compile(
    rf"{_PROGRAM}|{_WEIGHTS}|{_CONSTANTS}|{_INPUTS}|data/weights/weight_\d+|data/constants/tensor_\d+|extra/.+|"
    r"archive_format|archive_version|byteorder|version|\.data/(version|serialization_id)"
)
# Sizes are written as expressions, which sympy evaluates as Python: these are all that one needs.
_NODES = (
    ast.Expression, ast.Call, ast.keyword, ast.Name, ast.Load, ast.Constant, ast.BinOp, ast.UnaryOp, ast.Compare,
    ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip
_FUNCTIONS = frozenset(
    {
        "Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Max", "Min", "And", "Or", "Not",
        "Equality", "Unequality", "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan",
        "FloorDiv", "ModularIndexing", "Where", "PythonMod", "Mod", "CleanDiv", "CeilToInt", "FloorToInt", "CeilDiv",
        "LShift", "RShift", "PowByNatural", "FloatPow", "FloatTrueDiv", "IntTrueDiv", "TruncToFloat", "TruncToInt",
        "RoundToInt", "RoundDecimal", "ToFloat", "Identity",
    }
)  # fmt: skip
# In the description of a network's arguments: names of modules that PyTorch would import.
_IMPORTS = ("default_factory_module", "__enum__")


def refuse_code(path: Path) -> None:
    """Raises OctoscaleError for a file that torch.export.load would run code of, or that is no such archive."""
    with open_archive(path) as archive:
        found = next(_suspicions(archive), None)
    if found is not None:
        raise OctoscaleError(
            f"{path} is not loaded: {found}, and reading that can run code; export the network again with "
            "torch.export.save, its tensors plain ones"
        )


def _suspicions(archive: Archive) -> Iterator[str]:
    if not archive.is_regular or archive.text("archive_format") != "pt2":
        yield "it is no archive of PyTorch 2.9 or newer, older ones are pickles"
        return
    for name in archive.sizes:
        if not _PLAIN.fullmatch(name):
            yield f"it has {name}"
    for config in (_WEIGHTS, _CONSTANTS):
        for name, entry in json.loads(archive.read(config))["config"].items():
            if entry["use_pickle"] is not False:
                yield f"its tensor {name} is a pickle"
    try:
        torch.load(io.BytesIO(archive.read(_INPUTS)), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        yield "its sample inputs are more than tensors"
    program = archive.read(_PROGRAM).decode()
    for text in _expressions(json.loads(program)):
        if not _is_arithmetic(text):
            yield f"one of its sizes is {str(text)[:60]!r}"
    for name in _IMPORTS:
        if name in program:
            yield f"its arguments have {name}"


def _expressions(node: Any) -> Iterator[Any]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "expr_str":
                yield value
            else:
                yield from _expressions(value)
    elif isinstance(node, list):
        for value in node:
            yield from _expressions(value)


def _is_arithmetic(text: Any) -> bool:
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return False
    return all(
        isinstance(node, _NODES)
        and (not isinstance(node, ast.Call) or (isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS))
        and (not isinstance(node, ast.Constant) or not isinstance(node.value, str) or node.value.isidentifier())
        for node in nodes
    )


def count_parameters(archive: Archive) -> int:
    """Trained scalars."""
    total = 0
    for entry in json.loads(archive.read(_WEIGHTS))["config"].values():
        if entry["is_param"] and entry["tensor_meta"] is not None:
            sizes = [size["as_int"] for size in entry["tensor_meta"]["sizes"]]
            total += int(torch.Size(sizes).numel())
    return total


def shapes(archive: Archive) -> tuple[list[int | None], list[int | None]]:
    """Of the image argument and of the first result; None where any size fits."""
    module = json.loads(archive.read(_PROGRAM))["graph_module"]
    given = next(spec["user_input"]["arg"] for spec in module["signature"]["input_specs"] if "user_input" in spec)
    result = next(spec["user_output"]["arg"] for spec in module["signature"]["output_specs"] if "user_output" in spec)
    values = module["graph"]["tensor_values"]
    first, last = (
        [size.get("as_int") for size in values[argument["as_tensor"]["name"]]["sizes"]] for argument in (given, result)
    )
    return first, last
