"""What is printed for people is what was meant, whatever names stand in it."""

from cli.output import say, show_table

NAME = "house/in-transit:bank:out/EUR [bold]"


def test_names_are_printed_as_they_are(capsys):
    say(NAME)
    show_table("Accounts", ("account",), [(NAME,)])
    printed = capsys.readouterr().out
    assert printed.count(NAME) == 2
