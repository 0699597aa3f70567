import numpy as np
import pytest
import torch

from apportion.core._features import Feature
from apportion.core._ledger import Ledger
from apportion.report.kit._accounts import accounts_of
from apportion.report.kit._blocks import blocks_of
from apportion.report.kit._labels import short, visible
from apportion.report.kit._numbers import exact, percent, signed
from apportion.report.kit._target_shares import target_shares


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        (" dogs", " dogs"),
        (" ", "␣"),
        ("  ", "␣␣"),
        ("\n\n", "⏎⏎"),
        (" \n", "␣⏎"),
        ("end.\r\n\tx", "end.␍⏎⇥x"),
        ("", "∅"),
        ("\x1b[31m", "⟨U+001B⟩[31m"),
        ("\u202eevil", "⟨U+202E⟩evil"),
        ("\ud800", "⟨U+D800⟩"),
        ("👩\u200d👧", "👩\u200d👧"),
        ("שלום", "שלום"),
    ],
)
def test_labels_are_visible(label, shown):
    assert visible(label) == shown


def test_short_labels_lose_their_space_and_say_where_they_are_cut():
    assert short(" dogs", 10) == "dogs"
    assert short("日本語日本語", 7) == "日本語…"


def test_numbers_are_signed_and_share_their_decimals():
    assert [signed(x, 1.4) for x in (1.4, -0.05, 0.0, -0.0)] == ["+1.400", "−0.050", "0.000", "0.000"]
    assert signed(123.4, 250.0) == "+123.4"
    assert signed(-1e-9, 1e-8) == "−1.00e−09"
    assert signed(float("nan"), 1.0) == "nan"
    assert percent(-0.123) == "−12.3%"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_exact_numbers_give_back_the_value(dtype):
    values = torch.randn(50, generator=torch.Generator().manual_seed(0)).to(dtype) * 0.1
    for value in values.tolist():
        assert torch.tensor(float(exact(value, dtype)), dtype=dtype).item() == value
    assert exact(np.float32(0.1).item(), torch.float32) == "0.1"


def test_template_tokens_without_a_message_join_the_next_one():
    def make(label, **fields):
        return Feature(label=label, **fields)

    features = [
        make("<s>", template=True),
        make("hi", role="user", turn=0),
        make("<e>", template=True),
        make("ho", role="assistant", turn=1),
        make("<e>", template=True),
    ]
    assert [(b.heading, b.members) for b in blocks_of(features)] == [
        ("user · turn 0", (0, 1)),
        ("assistant · turn 1", (2, 3, 4)),
    ]


def test_parts_are_blocks_and_plain_text_has_no_heading(several, short):
    assert [b.heading for b in blocks_of(several.features)] == ["source", "decoder"]
    assert [b.heading for b in blocks_of(short.features)] == [""]


def test_lines_of_many_layers_become_one_row_and_the_rows_still_sum_to_the_total(short):
    accounts = accounts_of(short.ledger)
    assert [row.name for row in accounts.rows] == ["tokens", "positions", "biases", "softmax remainder (12 layers)"]
    assert accounts.rows[-1].parts[3] == ("layer 3", pytest.approx(-0.01))
    assert sum(row.amount for row in accounts.rows) + accounts.residual == pytest.approx(accounts.total)
    assert [name for name, _ in accounts.rows[2].parts] == ["h.0.mlp.bias", "h.1.mlp.bias"]


def test_lines_of_few_layers_stay():
    lines = {f"softmax remainder, layer {i}": torch.tensor(1.0) for i in range(2)}
    rows = accounts_of(Ledger(total=torch.tensor(2.0), lines=lines)).rows
    assert [row.name for row in rows] == list(lines)


def test_shares_are_of_the_total_only_where_a_ledger_vouches_for_it(short):
    with_ledger = target_shares(short)[0]
    assert with_ledger.share(with_ledger.accounts.total) == 1
    without = target_shares(short.normalized("max"))[0]
    assert without.divided_name == "all sizes"
    assert sum(abs(without.share(score)) for score in without.scores) == pytest.approx(1)


def test_all_targets_share_one_scale(several):
    shown = target_shares(several)
    assert {r.largest for r in shown} == {several.scores.abs().max().item()}
    assert len(target_shares(several, at_most=3)) == 3
