"""A Dockerfile's text becomes typed instructions, or one error that tells every mistake."""

from __future__ import annotations

import pytest

from regsim.errors import DockerfileError, ExitCode
from regsim.image.builder.dockerfile import (
    Copy,
    Dockerfile,
    Healthcheck,
    Run,
    defaults,
    read_dockerfile,
    read_trigger,
)
from regsim.image.builder.syntax import Problems, Written


def read(text: str) -> Dockerfile:
    problems = Problems("Dockerfile")
    found = read_dockerfile(text, problems)
    problems.check()
    return found


def only(text: str) -> object:
    """Return the one instruction after FROM."""
    (stage,) = read(f"FROM scratch\n{text}").stages
    (instruction,) = stage.instructions
    return instruction


def mistakes(text: str) -> list[str]:
    with pytest.raises(DockerfileError) as error:
        read(text)
    assert error.value.exit_code is ExitCode.USAGE
    return error.value.problems


def test_the_article_s_dockerfile_is_read() -> None:
    text = 'FROM golang\nCOPY . .\nRUN go build -o main main.go\nCMD ["./main"]\n'
    (stage,) = read(text).stages
    copy, run, start = stage.instructions
    assert stage.base == "golang"
    assert isinstance(copy, Copy)
    assert (copy.sources, copy.destination, copy.unpack) == ((".",), ".", False)
    assert isinstance(run, Run)
    assert (run.key, run.line) == ("go build -o main main.go", 3)
    assert isinstance(start, Written)
    assert (start.name, start.arguments, start.is_exec) == ("CMD", ("./main",), True)


def test_stages_have_names_in_lower_case_and_platforms() -> None:
    text = "FROM --platform=linux/arm64 a AS Build\nFROM build\nCOPY --from=build /x /y\n"
    first, second = read(text).stages
    assert (first.name, first.platform) == ("build", "linux/arm64")
    assert second.base == "build"
    assert second.instructions[0].source == "build"  # type: ignore[union-attr]


def test_arguments_may_stand_before_the_first_stage_and_nothing_else() -> None:
    arguments = read("ARG V=1\nARG W\nFROM golang:${V}\n").arguments
    assert [defaults(each) for each in arguments] == [[("V", "1")], [("W", None)]]
    assert mistakes("ENV A=1\nFROM scratch\n") == [
        "Dockerfile:1: ENV stands before the first FROM — only ARG may",
    ]


@pytest.mark.parametrize("escape", ["\\", "`"])
def test_continuations_and_comments_between_them_are_one_instruction(escape: str) -> None:
    head = "# escape=`\n" if escape == "`" else ""
    text = f"{head}FROM scratch\nRUN one {escape}\n  # a comment\n  two {escape}  \n\n  three\n"
    (stage,) = read(text).stages
    (run,) = stage.instructions
    assert isinstance(run, Run)
    assert run.key == "one two three"


def test_a_syntax_directive_is_accepted_and_changes_nothing() -> None:
    assert read("# syntax=docker/dockerfile:1\n# check=skip=all\nFROM scratch\n").escape == "\\"


def test_an_escape_directive_after_the_first_comment_is_a_comment() -> None:
    assert read("# hello\n# escape=`\nFROM scratch\n").escape == "\\"


def test_heredocs_are_files_of_a_copy() -> None:
    copy = only('COPY <<one <<-"two" x /d/\none $A\none\n\t\ttwo $A\n\ttwo\n')
    assert isinstance(copy, Copy)
    assert copy.sources == ("x",)
    assert [(each.name, each.content, each.expand) for each in copy.heredocs] == [
        ("one", "one $A\n", True),
        ("two", "two $A\n", False),
    ]


def test_a_heredoc_is_the_command_of_a_run() -> None:
    run = only("RUN <<EOF\ngo   build\ngo test\nEOF\n")
    assert isinstance(run, Run)
    assert run.words == ("go   build\ngo test\n",)
    assert run.key == "go build go test"


def test_a_heredoc_for_a_program_stays_with_its_command() -> None:
    run = only("RUN python3 <<EOF\nprint(1)\nEOF\n")
    assert isinstance(run, Run)
    assert run.words == ("python3 <<EOF\nprint(1)\nEOF",)


def test_the_flags_of_copy_are_read() -> None:
    copy = only("COPY --chown=1:2 --chmod=0644 --link --exclude=*.md --exclude=x --parents a b/")
    assert isinstance(copy, Copy)
    assert (copy.chown, copy.chmod, copy.link, copy.parents) == ("1:2", "0644", True, True)
    assert copy.exclude == ("*.md", "x")


def test_names_with_spaces_are_written_in_json_form() -> None:
    copy = only('COPY ["a b", "c d", "/e f/"]')
    assert isinstance(copy, Copy)
    assert (copy.sources, copy.destination) == (("a b", "c d"), "/e f/")


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("ENV A=1 B='two words' C=$A", ("A", "1", "=", "B", "'two words'", "=", "C", "$A", "=")),
        ("ENV A one two", ("A", "one two", "")),
    ],
)
def test_env_has_a_new_form_and_an_old_one(text: str, pairs: object) -> None:
    env = only(text)
    assert isinstance(env, Written)
    assert (env.name, env.arguments) == ("ENV", pairs)


def test_each_other_instruction_is_read() -> None:
    for text, arguments in {
        "ARG A B=2": ("A", "B=2"),
        "WORKDIR /go src": ("/go src",),
        "EXPOSE 80 443/udp": ("80", "443/udp"),
        'VOLUME ["/a", "/b c"]': ("/a", "/b c"),
        'SHELL ["/bin/bash", "-c"]': ("/bin/bash", "-c"),
        "ONBUILD RUN make": ("RUN make",),
    }.items():
        instruction = only(text)
        assert isinstance(instruction, Written)
        assert (instruction.name, instruction.line) == (text.split(" ", 1)[0], 2)
        assert instruction.arguments == arguments
    assert only("HEALTHCHECK NONE") == Healthcheck(2, {"Test": ["NONE"]})
    document = {
        "Test": ["CMD-SHELL", "curl -f x"],
        "Interval": 90 * 10**9,
        "Timeout": 15 * 10**8,
        "Retries": 3,
    }
    assert only("HEALTHCHECK --interval=1m30s --timeout=1.5s --retries=3 CMD curl -f x") == Healthcheck(
        2, document
    )


def test_every_mistake_is_told_at_once_with_its_line_and_a_hint() -> None:
    text = (
        "FROM golang AS 1x\n"
        "COPY --chwon=1 a b\n"
        "RNU one \\\n"
        "  two\n"
        "ENV A\n"
        "ADD https://example.org/x.tgz /\n"
        "HEALTHCHECK --interval=5 CMD x\n"
        "SHELL bash\n"
        "COPY a\n"
        "COPY --chmod=rwx a b\n"
    )
    found = mistakes(text)
    assert [problem.split(":")[1] for problem in found] == ["1", "2", "3", "5", "6", "7", "8", "9", "10"]
    assert found[1] == 'Dockerfile:2: there is no flag --chwon — did you mean "--chown"?'
    assert found[2] == 'Dockerfile:3: there is no instruction RNU — did you mean "RUN"?'
    assert "download it into the context" in found[4]


def test_a_heredoc_without_an_end_is_one_mistake() -> None:
    (mistake,) = mistakes("FROM scratch\nRUN <<EOF\necho\necho\n")
    assert mistake.startswith("Dockerfile:2: a heredoc is not ended — its terminator stands alone")


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "ARG A\n"])
def test_a_dockerfile_without_from_says_so(text: str) -> None:
    assert mistakes(text)[0].startswith("Dockerfile:1: there is no FROM")


@pytest.mark.parametrize("trigger", ["FROM x", "ONBUILD RUN x", "NOPE x", ""])
def test_what_no_trigger_may_be_is_refused(trigger: str) -> None:
    assert "not an instruction for ONBUILD" in mistakes(f"FROM scratch\nONBUILD {trigger}\n")[0]
    with pytest.raises(DockerfileError):
        read_trigger(trigger, "base")


def test_a_trigger_of_a_base_is_an_instruction() -> None:
    trigger = read_trigger("COPY . /src", "base")
    assert isinstance(trigger, Copy)
    assert trigger.destination == "/src"


def test_windows_line_ends_and_a_byte_order_mark_do_no_harm() -> None:
    (stage,) = read("\ufeffFROM scratch\r\nRUN a \\\r\n b\r\n").stages
    assert [type(each) for each in stage.instructions] == [Run]
