import pytest

from slm_energy.escape import latex, markdown, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("def f():\n\treturn 'ä€'", "def f():\n\treturn 'ä€'"),
        ("\x1b[31mred\x07", "␛[31mred␇"),
        ("\x7f\x9b", "<U+007F><U+009B>"),
        ("if admin:\u202e#\u2066", "if admin:<U+202E>#<U+2066>"),
        ("half \ud800", "half <U+D800>"),
    ],
)
def test_what_a_terminal_obeys_or_a_reader_misses_becomes_visible(text: str, shown: str) -> None:
    assert visible(text) == shown
    visible(text).encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<img src=x> & [x](javascript:y)", r"&lt;img src=x> &amp; \[x](javascript:y)"),
        ("a | b \\| c\nd", r"a \| b \\\| c d"),
        ("*a* _b_ `c` ~~d~~ $e$", r"\*a\* \_b\_ \`c\` \~\~d\~\~ \$e\$"),
    ],
)
def test_markdown_shows_it_as_it_is(text: str, shown: str) -> None:
    assert markdown(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (r"\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("50 % of a_b & c#d $x^2$ ~", r"50 \% of a\_b \& c\#d \$x\textasciicircum{}2\$ "
         r"\textasciitilde{}"),
        ("p < 0.01 | q > [1]", r"p \textless{} 0.01 \textbar{} q \textgreater{} {[}1{]}"),
        ("é ü 中", r"é ü \textless{}U+4E2D\textgreater{}"),
        ("a\n\n\\par", r"a \textbackslash{}par"),
    ],
)  # fmt: skip
def test_latex_sets_it_as_it_is(text: str, shown: str) -> None:
    assert latex(text) == shown
