"""The rules of the house, read from the syntax trees: who may import whom, and what may stand nowhere."""

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from support.command import tiny_plan

SOURCE = Path(__file__).parent.parent / "src" / "bloomery"
FILES = sorted(SOURCE.rglob("*.py"))
LONGEST_FILE = 400

COMMON = {"errors", "measure"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "measure": {"errors"},
    "plan": COMMON,
    "engine": COMMON | {"plan"},
    "data": COMMON,
    "model": COMMON,
    "train": COMMON | {"model", "data"},
    "evaluate": COMMON | {"model", "data"},
    "quant": COMMON | {"model", "data", "train"},
    "serve": COMMON | {"model", "data", "evaluate"},
    "stages": COMMON | {"plan", "engine", "data", "model", "train", "evaluate", "quant"},
    "report": COMMON | {"plan", "engine"},
    "cli": COMMON | {"plan", "engine", "data", "model", "train", "evaluate", "stages", "report", "serve"},
    "systems": COMMON | {"plan", "engine", "data", "model", "train", "evaluate", "quant", "stages"},
    "__main__": {"cli"},
    "": set(),
}
"""{part: the parts that it may import beside itself}: two towers, and no arrow upwards."""
WITHOUT_TORCH = {"errors", "measure", "plan", "engine", "cli", "report", "", "__main__"}
HEAVY = {"torch", "transformers", "datasets", "tokenizers", "safetensors", "matplotlib"}


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def name(file: Path) -> str:
    return file.relative_to(SOURCE).as_posix()


def part(file: Path) -> str:
    """`plan` for plan/load.py, `errors` for errors.py, empty for the package itself."""
    first = file.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py") if first != "__init__.py" else ""


def imports(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Full names of modules, those imported for types only included; `load("module:name")` counts as no import."""
    for found in ast.walk(node):
        if isinstance(found, ast.Import):
            yield from ((alias.name, found) for alias in found.names)
        elif isinstance(found, ast.ImportFrom):
            assert found.level == 0, "imports are absolute"
            yield found.module or "", found
            yield from ((f"{found.module}.{alias.name}", found) for alias in found.names)


def at_top(module: ast.Module) -> Iterator[str]:
    """What is imported as soon as the module is: not inside functions, not for types only."""

    def walk(body: list[ast.stmt]) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield from (module for module, _ in imports(node))
            elif isinstance(node, ast.If):
                if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
                    yield from walk(node.body)
                yield from walk(node.orelse)
            elif isinstance(node, ast.Try | ast.With | ast.ClassDef):
                yield from walk(node.body)

    return walk(module.body)


def own(module: str) -> tuple[str, ...] | None:
    """("plan", "load") for bloomery.plan.load; None for what is not ours."""
    parts = tuple(module.split("."))
    return parts[1:] if parts[0] == "bloomery" else None


def test_there_are_files() -> None:
    assert len(FILES) > 80
    assert {part(file) for file in FILES} <= set(MAY_IMPORT)


@pytest.mark.parametrize("file", FILES, ids=name)
def test_imports_point_down(file: Path) -> None:
    here = part(file)
    allowed = MAY_IMPORT[here] | {here, "__version__"}
    for module, node in imports(tree(file)):
        target = own(module)
        if target:
            assert target[0] in allowed, f"{name(file)}:{node.lineno} imports {module}"  # type: ignore[attr-defined]


@pytest.mark.parametrize("file", [file for file in FILES if part(file) == "systems"], ids=name)
def test_a_system_knows_no_other_and_not_the_runner(file: Path) -> None:
    system = file.relative_to(SOURCE).parts[1]
    for module, _ in imports(tree(file)):
        target = own(module) or ("",)
        if target[0] == "systems" and len(target) > 1:
            assert target[1] == system, f"{name(file)} imports {module}"
        assert target[:2] != ("engine", "runner"), f"{name(file)} imports {module}"


def test_only_discovery_names_systems() -> None:
    for file in FILES:
        text = [node.value for node in ast.walk(tree(file)) if isinstance(node, ast.Constant)]
        named = any(isinstance(value, str) and "bloomery.systems." in value for value in text)
        assert not named or part(file) == "systems" or name(file) == "engine/discover.py", name(file)


def test_no_module_stands_in_a_circle() -> None:
    below = {
        name(file).removesuffix(".py").removesuffix("/__init__"): {
            "/".join(own(module) or ())
            for module in at_top(tree(file))
            if own(module)
        }
        for file in FILES
    }  # fmt: skip
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way, module))
        if module not in done:
            for target in below[module] & below.keys():
                if target != module:
                    visit(target, (*way, module))
            done.add(module)

    for module in below:
        visit(module, ())


@pytest.mark.parametrize("file", [file for file in FILES if part(file) in WITHOUT_TORCH], ids=name)
def test_the_left_tower_is_light(file: Path) -> None:
    for module in at_top(tree(file)):
        heavy = module.split(".")[0] in HEAVY
        assert not heavy or (part(file) == "report" and module.startswith("matplotlib")), (
            f"{name(file)} imports {module}"
        )
        assert part(file) == "cli" or (own(module) or ("",))[0] not in ("model", "train", "evaluate"), name(file)


FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "yaml"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "hasattr"}
FORBIDDEN_METHODS = {
    ("torch", "load"), ("torch", "save"), ("yaml", "load"), ("os", "system"), ("pickle", "loads"), ("pickle", "load"),
}  # fmt: skip
SHELLS = {"shell"}


@pytest.mark.parametrize("file", FILES, ids=name)
def test_nothing_is_unpickled_evaluated_or_printed(file: Path) -> None:
    for module, _ in imports(tree(file)):
        assert module.split(".")[0] not in FORBIDDEN_MODULES, f"{name(file)} imports {module}"
    for node in ast.walk(tree(file)):
        if not isinstance(node, ast.Call):
            continue
        place = f"{name(file)}:{node.lineno}"
        if isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN_CALLS, place
            assert node.func.id != "print" or part(file) == "cli", place
        if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            assert (node.func.value.id, node.func.attr) not in FORBIDDEN_METHODS, place
            if (node.func.value.id, node.func.attr) == ("np", "load"):
                given = {word.arg: word.value for word in node.keywords}
                allowed = given.get("allow_pickle")
                assert isinstance(allowed, ast.Constant), place
                assert allowed.value is False, place
        for word in node.keywords:
            assert word.arg not in SHELLS, place


@pytest.mark.parametrize("file", FILES, ids=name)
def test_a_file_is_short_and_says_what_it_is(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE
    if text.strip():
        assert ast.get_docstring(tree(file)), "a module opens with what it is"
    for word in ("TODO", "FIXME", "XXX"):
        assert word not in text


# What is said of the whole


def test_sockets_are_blocked_here_and_in_processes_that_tests_start() -> None:
    attempt = "import socket; socket.socket().connect(('192.0.2.1', 9))"
    import socket

    with socket.socket() as one, pytest.raises(RuntimeError, match="never touches the network"):
        one.connect(("192.0.2.1", 9))
    with socket.socket() as one, pytest.raises(ConnectionRefusedError):
        one.connect(("127.0.0.1", 9))
    done = subprocess.run([sys.executable, "-c", attempt], capture_output=True, text=True, check=False)
    assert "never touches the network" in done.stderr


def without_systems(folder: Path) -> Path:
    """A copy of the package with an empty folder in the place of systems/."""
    shutil.copytree(SOURCE, folder / "bloomery", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.rmtree(folder / "bloomery" / "systems")
    (folder / "bloomery" / "systems").mkdir()
    return folder


@pytest.mark.slow
def test_all_but_the_systems_works_without_them(tmp_path: Path) -> None:
    package = without_systems(tmp_path / "src")
    changes = {"stages.0.config.tokens": "512 tok", "stages.0.evaluate": [], "seeds": [0]}
    gate = [{"metric": "text/loss", "relative_to": "control", "op": "<=", "value": 2}]
    tiny_plan(tmp_path, **changes, **{"stages.0.gate": gate})
    environment = {**os.environ, "PYTHONPATH": f"{os.environ['PYTHONPATH'].split(os.pathsep)[0]}{os.pathsep}{package}"}
    modules = sorted(
        ".".join(("bloomery", *file.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
        for file in FILES
        if part(file) not in ("systems", "__main__")
    )
    script = (
        "import importlib, sys\n"
        f"for module in {modules!r}: importlib.import_module(module)\n"
        "import bloomery, bloomery.report.page; assert bloomery.__file__.startswith(sys.argv[1]), bloomery.__file__\n"
        "bloomery.report.page.write_report = lambda folder: folder\n"
        "from bloomery.engine.discover import catalogue; assert list(catalogue.systems()) == ['dense']\n"
        "sys.argv = ['bloomery', 'run', 'tiny.yaml', '--threads', '1']\n"
        "from bloomery.cli import main; main()\n"
    )
    command = [sys.executable, "-c", script, str(package)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wheel_holds_all_that_is_no_python(tmp_path: Path) -> None:
    """Plans, tables, pages and the C sources, which are compiled where they are used."""
    root = SOURCE.parent.parent
    shutil.copytree(SOURCE, tmp_path / "src" / "bloomery", ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(root / file, tmp_path)
    script = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    command = [sys.executable, "-W", "ignore", "-c", script, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
    ours = {file.relative_to(SOURCE.parent).as_posix() for file in SOURCE.rglob("*") if file.is_file()}
    ours = {name for name in ours if "__pycache__" not in name}
    assert {Path(name).suffix for name in ours} >= {".py", ".yaml", ".html"}
    assert ours - names == set()


@pytest.mark.slow
def test_the_suite_is_green_without_systems(tmp_path: Path) -> None:
    package = without_systems(tmp_path / "src")
    tests = tmp_path / "tests"
    left_out = ["__pycache__", "systems", "test_house.py", "test_docs.py"]  # the documents show the systems
    for below in ("data", "evaluate", "model", "train"):  # which may not import what finds a system, nor do their tests
        assert not MAY_IMPORT[below] & {"engine", "stages", "systems"}
        for file in (Path(__file__).parent / below).rglob("test_*.py"):
            targets = {(own(module) or ("",))[0] for module, _ in imports(tree(file))}
            if not targets & {"engine", "stages", "systems", "cli"}:
                left_out.append(file.name)
    shutil.copytree(Path(__file__).parent, tests, ignore=shutil.ignore_patterns(*left_out))
    shutil.copy2(SOURCE.parent.parent / "pyproject.toml", tmp_path)
    assert package == tmp_path / "src"
    environment = {**os.environ, "PYTHONPATH": str(package), "HYPOTHESIS_PROFILE": "few"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", str(tests)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
