import io
import re
import sys
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from apportion.report.attribution._terminal import terminal

COLOURS = re.compile(r"\x1b\[[0-9;]*(?:[34]8;|3[0-7]|4[0-7])")


@pytest.fixture(autouse=True)
def _width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)


def in_colour(attribution, *, width=80, no_color=False):
    console = Console(
        file=io.StringIO(), force_terminal=True, color_system="truecolor", width=width, no_color=no_color, _environ={}
    )
    console.print(terminal(attribution))
    return console.file.getvalue()


def stdout_that_is_a_terminal(monkeypatch):
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)


def test_plain_text_says_everything_without_colour(short):
    text = repr(short)
    assert "\x1b" not in text
    for wanted in ("attnlrp", "gpt2", '" are" − " is"', "+1.212 logit difference", "are 61.2%"):
        assert wanted in text
    assert "The keys[+++] to the cab[−−]inet[−] near[+] doors[+]" in text
    assert re.search(r"keys +at 1 +\+1\.412 +\+116\.5% +█", text)
    assert re.search(r"cab +at 4 +−0\.634 +−52\.3% +▒", text)


def test_the_residual_comes_last_with_its_relative_size(short):
    assert re.match(r" +residual +\+1\.0e−09 +8e−10 relative$", repr(short).splitlines()[-1])


def test_layers_are_summed_in_one_row(short):
    text = repr(short)
    assert re.search(r"softmax remainder \(12 layers\) +\+0\.180", text)
    assert "layer 3" not in text


def test_a_terminal_gets_colours(short, monkeypatch):
    stdout_that_is_a_terminal(monkeypatch)
    assert COLOURS.search(repr(short))


def test_no_color_is_respected(short, monkeypatch):
    stdout_that_is_a_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    text = repr(short)
    assert "\x1b" not in text
    assert "keys[+++]" in text


def test_a_console_without_colours_gets_marks_instead(short):
    assert "keys[+++]" in in_colour(short, no_color=True)
    assert not COLOURS.search(in_colour(short, no_color=True))
    assert "[+++]" not in in_colour(short)


def test_repr_is_this_report(short):
    assert repr(short) == repr(short)


def test_roles_head_their_blocks_and_template_tokens_are_dimmed(chat):
    text = repr(chat)
    assert text.index("system · turn 0") < text.index("user · turn 1") < text.index("assistant · turn 2")
    assert "\x1b[2m<|im_start|>" in in_colour(chat)


@pytest.mark.parametrize("width", [20, 60, 80, 300])
def test_a_thousand_tokens_wrap(long, width):
    lines = in_colour(long, width=width).splitlines()
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert max(map(len, plain)) <= width
    words = re.sub(r"[\s⏎]+", "", "".join(plain))
    assert re.sub(r"\s+", "", "".join(f.label for f in long.features)) in words


def test_several_targets_are_compact_and_capped(several):
    text = repr(several)
    assert text.count("Pourquoi") >= 6
    assert text.count("log-probability") == 6
    assert "and 2 more targets" in text
    assert "a[6]" in text


def test_one_target_with_an_axis_of_its_own_is_shown_whole(several):
    one = replace(several, scores=several.scores[:1], explained=several.explained[:1], ledger=None)
    assert "largest shares" in repr(one)


def test_zeros_without_ledger_have_neither_marks_nor_shares(short):
    text = repr(replace(short, scores=torch.zeros(8), ledger=None))
    assert "The keys to the cabinet near doors" in text
    assert "[+" not in text
    assert "ledger" not in text
    assert "%" not in text.split("largest shares")[1]


def test_odd_labels_are_shown_as_they_are(odd):
    text = repr(odd)
    assert "\x1b" not in text
    assert "\u202e" not in text
    for label in ("<script>alert('x')</script>", "[bold]b[/bold]", "⟨U+001B⟩[31mred", "日本語", "␣", "⏎", "⇥", "∅"):
        assert label in text
    text.encode()


def test_a_sampled_share_shows_how_uncertain_it_is(short):
    sampled = replace(short, standard_errors=torch.linspace(0.01, 0.08, 8))
    assert re.search(r"keys +at 1 +\+1\.412 ± 0\.02 +\+116\.5%", repr(sampled))
    assert "±" not in repr(short)
