"""What ``--help`` promises: groups, examples that run on the demo, the nearest word, exit codes."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import textwrap

import pytest

from laion_zarr.conversion.cli import commands, main
from laion_zarr.download import access_service, license
from laion_zarr.store.schema import PARTS

NAMES = [command.name for command in commands.COMMANDS]
WITH_SERVER = ["explore"]  # serves until it is interrupted
FORM = ["Ada L.", "ada@example.org", "A University", "", "To learn how brains see.", "I AGREE"]


def shown(capsys, *words):
    """What ``--help`` prints, in one line."""
    assert main([*words, "--help"]) == 0
    return re.sub(r"[\s│]+", " ", capsys.readouterr().out)


def example(capsys, *words):
    """The arguments of the example that ``--help`` shows."""
    assert main([*words, "--help"]) == 0
    text = capsys.readouterr().out.partition("Example:\n")[2]
    program, *arguments = shlex.split(text.replace("\\\n", " "))
    assert program == "laion-zarr"
    assert arguments[: len(words)] == list(words)
    return arguments


def test_help_lists_each_command_in_its_group(capsys):
    text = shown(capsys)
    titles = [text.index(f" {title} ─") for title in ("Get", "Convert", "Look", "Check", "Options")]
    assert titles == sorted(titles)
    places = dict(zip(("Get", "Convert", "Look", "Check"), titles, strict=False))
    for command in commands.COMMANDS:
        start = places[command.group.name]
        end = next(place for place in titles if place > start)
        assert f" {command.name} " in text[start:end], command.name


def test_python_m_is_the_command_and_help_needs_nothing_slow():
    code = (
        "import runpy, sys; sys.argv = ['laion-zarr', '--help']\n"
        "try: runpy.run_module('laion_zarr', run_name='__main__')\n"
        "except SystemExit as stop: assert not stop.code\n"
        "slow = {'numpy', 'zarr', 'xarray', 'dask', 'pandas', 'nibabel', 's3fs', 'aiohttp'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: laion-zarr COMMAND" in run.stdout
    assert run.stdout.splitlines()[-1] == "[]"


LOCAL = ["config", "convert", "info", "verify", "outdated"]
REMOTE = [name for name in NAMES if name not in (*LOCAL, *WITH_SERVER, "demo")]


@pytest.mark.parametrize("words", [*([name] for name in LOCAL), ["splits", "add"]], ids=" ".join)
def test_example_runs_on_the_demo(words, on_demo, capsys):
    assert main(example(capsys, *words)) == 0
    assert capsys.readouterr().out


def test_examples_of_the_bucket_run(front, monkeypatch, capsys):
    """On a bucket with the demo's files; the form of the access service is filled in first."""
    license.keep()
    answers = iter(FORM)
    monkeypatch.setattr(access_service, "can_ask", lambda: True)
    monkeypatch.setattr("builtins.input", lambda prompt: next(answers))
    for name in ["request-access", *(name for name in REMOTE if name != "request-access")]:
        assert main(example(capsys, name)) == 0, name
        assert capsys.readouterr().out, name


def test_example_of_the_explorer_runs(on_demo, capsys):
    command = [sys.executable, "-m", "laion_zarr", *example(capsys, "explore")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert "http://127.0.0.1:" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_demo_without_matplotlib(demo_run):
    """All but the picture is made; the extra that draws it is named."""
    assert demo_run.code == 0
    (left_out,) = [line for line in demo_run.lines if line.startswith("Picture")]
    assert 'pip install "laion-zarr[plot]"' in left_out
    assert not list(demo_run.folder.rglob("*.png"))


# -- words that are not known


@pytest.mark.parametrize(
    ("line", "near"),
    [
        ("convrt", "convert"),
        ("splits ad", "add"),
        ("convert --subjct 01", "--subject"),
        ("convert --parts beta", "betas"),
        ("convert --mask anatomicl", "anatomical"),
    ],
)
def test_misspelt_word_gets_the_nearest(line, near, capsys):
    with pytest.raises(SystemExit) as caught:
        main(line.split())
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert re.search(rf"""Did you mean ["']?{near}["']?\?""", err)
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("error: ")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("verify my.zarr", "'my.zarr' belongs to no option. Did you mean --store my.zarr?"),
        ("convert ./data", "Did you mean --source ./data?"),
        ("info sub-01", "'sub-01' belongs to no option. 'laion-zarr info --help' lists"),
        ("rois --store my.zarr", "'laion-zarr rois'. 'laion-zarr rois --help' lists its options"),
        ("help", "Unknown command 'help'. 'laion-zarr --help' lists the commands."),
        ("splits list", "'laion-zarr splits --help' lists the commands."),
    ],
)
def test_what_is_out_of_place_is_told_where_it_belongs(line, said, capsys):
    with pytest.raises(SystemExit):
        main(line.split())
    assert said in capsys.readouterr().err


def test_misspelt_category_gets_the_nearest(front, capsys):
    assert main(["rois", "--category", "fase"]) == 1
    assert "Did you mean 'face'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        "download",
        "convert --subject",
        "convert --n-workers 2 --scheduler tcp://localhost:1",
        "convert --n-workers two",
        "verify more",
        "convert --no-quiet",
    ],
)
def test_wrong_use_is_code_2(line, capsys):
    with pytest.raises(SystemExit) as caught:
        main(line.split())
    assert caught.value.code == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("words", [[], ["splits"]])
def test_no_command_shows_help_on_stderr(words, capsys):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Usage: laion-zarr" in err


def test_options_take_several_words_and_the_last_value(on_demo, capsys):
    where = ["--source", "laion-zarr-demo/data", "--store", "nowhere"]
    line = [*where, "--store", "new.zarr", "--subject", "sub-01", "--ses", "01", "--ses", "02"]
    assert main(["convert", *line, "--parts", "betas", "metadata", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("ses-01", "ses-02", "metadata"))
    assert "images" not in out
    assert len(PARTS) > 2


def test_debug_shows_the_traceback(on_demo):
    with pytest.raises(FileNotFoundError):
        main(["info", "--store", "nowhere", "--debug"])


# -- Ctrl-C, terminals


@pytest.mark.parametrize(
    ("line", "of", "said"),
    [
        ("convert --source laion-zarr-demo/data --store x", "run.pipeline.run_conversion", "Parts"),
        ("verify", "verification.store.run_verification", "Nothing was changed;"),
    ],
)
def test_interrupted_command_says_what_is_kept(line, of, said, on_demo, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"laion_zarr.conversion.{of}", stop)
    assert main(line.split()) == 130
    out, err = capsys.readouterr()
    assert err.startswith(f"Interrupted. {said}")
    assert (out, err.count("\n")) == ("", 1)


def test_ctrl_c_while_modules_are_imported_is_one_line(tmp_path):
    """In the first moments, before any command runs: also in the midst of an import."""
    stop = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
    (tmp_path / "cyclopts.py").write_text(f"try:\n{textwrap.indent(stop, '    ')}\nexcept: pass")
    run = subprocess.run(
        [sys.executable, "-m", "laion_zarr", "--help"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stdout) == (130, "")
    assert run.stderr == "Interrupted. Nothing was changed; the same command begins anew.\n"


def test_ctrl_c_before_a_command_has_begun(monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(commands.app), "parse_args", stop)
    assert main(["info"]) == 130
    assert capsys.readouterr().err.startswith("Interrupted. Nothing was changed;")


def in_terminal(**environment):
    """What ``--help`` writes to a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "laion_zarr", "--help"]
    env = {"TERM": "xterm-256color", "COLUMNS": "90"} | environment
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=kept | env):
        os.close(theirs)
        text = b""
        try:
            while piece := os.read(ours, 4096):
                text += piece
        except OSError:  # how Linux says that the other end is closed
            pass
    os.close(ours)
    return text.decode()


def test_no_color_is_heeded():
    colour = r"\x1b\[[\d;]*3[1-8]"
    assert re.search(colour, in_terminal())
    assert not re.search(colour, in_terminal(NO_COLOR="1"))
