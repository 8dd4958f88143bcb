"""The scorer of programs, on good ones and on every kind of bad one."""

import time
from pathlib import Path

import pytest

from experiments.programs import Outcome, outcomes
from jann.data import Problem, load

DOUBLE = Problem("Write a function to double a number.", "", ("assert f(2) == 4", "assert f(3) == 6"))
GOOD = "def f(x):\n    return 2 * x\n"
NO, PARSES, RUNS, PASSES = (Outcome(*(i < n for i in range(3))) for n in range(4))

PROGRAMS = {
    "right": (GOOD, PASSES),
    "right, and talks of it": (f"print('passed')\n{GOOD}", PASSES),
    "right for the first test only": ("def f(x):\n    return 4\n", RUNS),
    "another name": ("def g(x):\n    return 2 * x\n", RUNS),
    "talks, and is wrong": ("def f(x):\n    print('ran passed', flush=True)\n", RUNS),
    "no Python": ("def f(x:\n    return 2 * x\n", NO),
    "nothing": ("", NO),
    "a comment": ("# def f(x)", NO),
    "a null byte": ("x = '\0'", NO),
    "too deep": ("(" * 5000 + ")" * 5000, NO),
    "an error as it runs": (f"{GOOD}\nundefined", PARSES),
    "leaves at once": (f"{GOOD}\nimport os\nos._exit(0)", PARSES),
    "leaves politely": (f"{GOOD}\nraise SystemExit(0)", PARSES),
    "leaves when tested": ("import os\ndef f(x):\n    os._exit(0)", RUNS),
    "wants an answer": (f"{GOOD}\ninput()", PARSES),
    "takes all memory": (f"{GOOD}\nx = bytearray(2**31)", PARSES),
    "fills the disk": (f"{GOOD}\nwith open('big', 'wb') as file:\n    file.write(bytes(2**24))", PARSES),
}


@pytest.fixture(scope="module")
def found():
    return dict(zip(PROGRAMS, outcomes([p for p, _ in PROGRAMS.values()], [DOUBLE] * len(PROGRAMS)), strict=True))


@pytest.mark.parametrize("name", PROGRAMS)
def test_how_far_it_comes(found, name):
    assert found[name] == PROGRAMS[name][1]


@pytest.mark.parametrize(
    ("program", "wanted"),
    [
        (f"{GOOD}\nwhile True:\n    try:\n        pass\n    except BaseException:\n        pass", PARSES),
        (f"{GOOD}\nimport time\ntime.sleep(60)", PARSES),
        ("def f(x):\n    while True:\n        pass", RUNS),
    ],
)
def test_endless_ones_are_ended(program, wanted):
    clock = time.perf_counter()
    assert outcomes([program], [DOUBLE], seconds=1.0) == [wanted]
    assert time.perf_counter() - clock < 10


def test_children_are_ended_with_it(tmp_path):
    sign = tmp_path / "sign"
    child = f"import time; time.sleep(2); open({str(sign)!r}, 'w')"
    program = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {child!r}])\n{GOOD}"
    outcomes([program], [DOUBLE])  # where processes are limited it has no child to begin with
    time.sleep(2.5)
    assert not sign.exists()


def test_nothing_is_left_and_nothing_is_seen(tmp_path, monkeypatch):
    monkeypatch.setenv("JANN_SECRET", "1")
    monkeypatch.chdir(tmp_path)
    program = f"{GOOD}\nimport os\nassert 'JANN_SECRET' not in os.environ and not os.listdir()\nopen('left', 'w')"
    assert outcomes([program], [DOUBLE]) == [PASSES]
    assert not list(Path(tmp_path).iterdir())


def test_setup_comes_before_and_order_is_kept():
    problem = DOUBLE._replace(setup="two = 2", tests=("assert f(two) == 4",))
    assert outcomes(["", GOOD, "f = abs"], [problem] * 3) == [NO, PASSES, RUNS]


@pytest.mark.usefixtures("real_data")
def test_solutions_of_mbpp_pass():
    problems = load("mbpp").validation[:20]
    assert sum(each.passes for each in outcomes([problem.code for problem in problems], problems)) >= 19
