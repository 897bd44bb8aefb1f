"""Messages are one printable line, whatever foreign input they quote."""

from hypothesis import given
from hypothesis import strategies as st

from kdq.errors import UserError, nearest, one_line, shown

values = st.recursive(
    st.none() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.text(max_size=3000))
def test_a_message_is_one_printable_line(text):
    message = str(UserError(text))
    assert message.isprintable() and len(message) <= 1000
    assert one_line(message) == message


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=900))
def test_a_plain_message_is_left_alone(text):
    assert text.isprintable() is False or str(UserError(text)) == text


@given(values)
def test_a_value_is_shown_in_short(value):
    assert "\n" not in shown(value) and len(shown(value)) < 10_000


def test_a_value_that_would_fill_the_memory_is_shown_at_once():
    bomb = ["x"] * 10
    for _ in range(30):
        bomb = [bomb] * 10
    assert len(shown(bomb)) < 10_000


def test_the_nearest():
    assert nearest("kdd", ["kd", "dkd", "rtn"]) == "; did you mean 'kd'?"
    assert nearest("temp", ["stem", "temperature"]) == "; did you mean 'temperature'?"
    assert nearest("kd" * 100_000, ["kd"]) == nearest(["kd"], ["gpfq"]) == ""
