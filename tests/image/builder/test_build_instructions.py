"""Each instruction does to an image what the Dockerfile reference says."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING

import pytest

from regsim.core import Descriptor, Platform, media_types
from regsim.core.manifest import manifest_document
from regsim.errors import ContentError, DockerfileError
from regsim.image.builder.effects import Effect, MadeFile
from regsim.store.layout import LayoutStore
from regsim.store.memory import BytesContent

if TYPE_CHECKING:
    from tests.image.builder.conftest import Bench

pytestmark = pytest.mark.anyio

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


async def test_metadata_goes_into_the_config_and_makes_no_layer(bench: Bench) -> None:
    image = await bench.build(
        "FROM scratch\n"
        "ARG V=1\n"
        'ENV A="one two" B=$V\n'
        "LABEL maintainer=me version=${V}.0\n"
        "EXPOSE 8080 53/udp 9000-9001\n"
        "USER 1000:1000\n"
        "VOLUME /data /more\n"
        'SHELL ["/bin/bash", "-c"]\n'
        "STOPSIGNAL SIGINT\n"
        "HEALTHCHECK --interval=30s --retries=2 CMD curl -f localhost\n"
        "ONBUILD COPY . /src\n"
        'ENTRYPOINT ["/app"]\n'
        "CMD run $A\n"
        "MAINTAINER somebody\n"
    )
    assert image.built.layers == ()
    assert image.config == {
        "User": "1000:1000",
        "ExposedPorts": {"8080/tcp": {}, "53/udp": {}, "9000/tcp": {}, "9001/tcp": {}},
        "Env": [PATH, "A=one two", "B=1"],
        "Entrypoint": ["/app"],
        "Cmd": ["/bin/bash", "-c", "run $A"],
        "Volumes": {"/data": {}, "/more": {}},
        "WorkingDir": "/",
        "Labels": {"maintainer": "me", "version": "1.0"},
        "StopSignal": "SIGINT",
        "OnBuild": ["COPY . /src"],
        "Healthcheck": {"Test": ["CMD-SHELL", "curl -f localhost"], "Interval": 30 * 10**9, "Retries": 2},
        "Shell": ["/bin/bash", "-c"],
    }
    assert image.document["author"] == "somebody"
    assert image.history == [
        "ARG V=1",
        "ENV A=one two B=1",
        "LABEL maintainer=me version=1.0",
        "EXPOSE map[53/udp:{} 8080/tcp:{} 9000/tcp:{} 9001/tcp:{}]",
        "USER 1000:1000",
        "VOLUME [/data /more]",
        "SHELL [/bin/bash -c]",
        "STOPSIGNAL SIGINT",
        "HEALTHCHECK {Test:[CMD-SHELL curl -f localhost] Interval:30000000000 Retries:2}",
        'ENTRYPOINT ["/app"]',
        'CMD ["/bin/bash" "-c" "run $A"]',
        "MAINTAINER somebody",
    ]
    assert all(line["empty_layer"] for line in image.document["history"])


async def test_workdirs_add_up_and_each_makes_a_layer(bench: Bench) -> None:
    image = await bench.build("FROM scratch\nENV D=src\nWORKDIR /go\nWORKDIR $D/x\nWORKDIR ..\n")
    assert image.config["WorkingDir"] == "/go/src"
    assert sorted(image.files) == ["go", "go/src", "go/src/x"]
    assert {entry.mode for entry in image.files.values()} == {0o755}
    assert image.history[1:] == ["WORKDIR /go", "WORKDIR /go/src/x", "WORKDIR /go/src"]
    assert len(image.built.layers) == 3  # the last one is empty, as BuildKit makes it


async def test_a_workdir_belongs_to_the_user(bench: Bench) -> None:
    image = await bench.build("FROM scratch\nUSER 7:8\nWORKDIR /home/me\n")
    assert {(entry.uid, entry.gid) for entry in image.files.values()} == {(7, 8)}


async def test_an_entrypoint_forgets_the_command_of_its_base_only(bench: Bench) -> None:
    text = 'FROM scratch AS base\nCMD ["a"]\nFROM base\nENTRYPOINT ["b"]\n'
    assert "Cmd" not in (await bench.build(text)).config
    assert (await bench.build(text + 'CMD ["c"]\n')).config["Cmd"] == ["c"]
    kept = await bench.build('FROM scratch\nCMD ["a"]\nENTRYPOINT ["b"]\n')
    assert kept.config["Cmd"] == ["a"]


async def test_arguments_come_from_the_command_line_the_stage_or_above_it(bench: Bench) -> None:
    text = (
        "ARG V=1\nARG W=2\nFROM scratch\nARG V\nARG W=3\nARG X=${V}-${W}\nARG TARGETARCH\n"
        "ENV ALL=$V,$W,$X,$TARGETARCH,$UNSET\n"
    )
    plain = await bench.build(text)
    assert plain.config["Env"][1] == "ALL=1,3,1-3,amd64,"
    given = await bench.build(text, arguments={"V": "9"}, platform=Platform("linux", "arm64", "v8"))
    assert given.config["Env"][1] == "ALL=9,3,9-3,arm64,"
    assert given.document["architecture"] == "arm64"


async def test_env_stands_above_an_argument_of_its_name(bench: Bench) -> None:
    image = await bench.build("FROM scratch\nENV V=env\nARG V=arg\nENV W=$V\n")
    assert image.config["Env"][1:] == ["V=env", "W=env"]


async def test_a_run_leaves_what_is_declared_and_deletes_what_is_declared(bench: Bench) -> None:
    bench.write("old/file", "x")
    effect = Effect(
        files={
            b"bin/tool": MadeFile(size=1000, mode=0o755),
            b"etc/conf": MadeFile(content=b"a=1\n", uid=5, gid=6),
            b"etc/link": MadeFile(link=b"conf"),
        },
        delete=(b"old",),
    )
    image = await bench.build("FROM scratch\nCOPY . /\nRUN make   all\n", effects={"make all": effect})
    assert sorted(image.files) == ["bin", "bin/tool", "etc", "etc/conf", "etc/link"]
    assert (image.files["bin/tool"].mode, len(image.data["bin/tool"])) == (0o755, 1000)
    assert (image.data["etc/conf"], image.files["etc/conf"].uid) == (b"a=1\n", 5)
    assert image.files["etc/link"].link == b"conf"
    assert image.history[-1] == "RUN /bin/sh -c make   all # buildkit"


async def test_arguments_show_in_the_history_of_a_run(bench: Bench) -> None:
    image = await bench.build("FROM scratch\nARG V=1\nRUN x\n", effects={"x": Effect()})
    assert image.history[-1] == "RUN |1 V=1 /bin/sh -c x # buildkit"


async def test_a_run_of_which_nothing_is_declared_is_an_error_before_anything_is_built(bench: Bench) -> None:
    with pytest.raises(DockerfileError) as error:
        await bench.build("FROM scratch\nCOPY nothing /\nRUN make\nRUN make all\n")
    assert [line.split(":")[1] for line in error.value.problems] == ["3", "4"]
    assert "nothing is declared for RUN make" in error.value.problems[0]
    assert "Dockerfile.run.yaml" in error.value.problems[0]
    assert not bench.layout.exists()


async def test_a_run_cannot_delete_what_is_not_there(bench: Bench) -> None:
    with pytest.raises(DockerfileError, match="declared to delete 'gone', which is not there"):
        await bench.build("FROM scratch\nRUN rm\n", effects={"rm": Effect(delete=(b"gone",))})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("EXPOSE 70000", "not a port"),
        ("EXPOSE 80/icmp", "not a port"),
        ("STOPSIGNAL never", "no such signal"),
        ("USER ${x:?who}", "who"),
        ("COPY --chown=nobody a /", "no user 'nobody'"),
        ("COPY --from=later a /", "names a stage that is not built before"),
        ("COPY --from=3 a /", "names no stage before this one"),
        pytest.param(f"COPY --from={'9' * 5000} a /", "names no stage before this one", id="long number"),
        pytest.param(f"COPY a{'[' * 5000}] /", "not a pattern", id="long pattern"),
        pytest.param(f"COPY {'[' * 9000}] /", "brackets are nested too deep", id="deep brackets"),
        ("COPY --from=² a /", "not a repository name"),
    ],
)
async def test_what_makes_no_sense_is_told_with_its_line(bench: Bench, text: str, message: str) -> None:
    bench.write("a")
    with pytest.raises(DockerfileError, match=f"Dockerfile:2: .*{message}"):
        await bench.build(f"FROM scratch AS first\n{text}\nFROM scratch AS later\nCOPY --from=first a a\n")


async def test_a_trigger_is_done_by_who_builds_on_the_image(bench: Bench) -> None:
    bench.write("main.c", "int main;\n")
    await bench.build("FROM scratch\nWORKDIR /src\nONBUILD COPY . .\n", tag="base")
    image = await bench.build(f"FROM oci:{bench.layout}:base\nLABEL a=b\n")
    assert image.data["src/main.c"] == b"int main;\n"
    assert "OnBuild" not in image.config
    assert image.history == ["WORKDIR /src", "COPY . . # buildkit", "LABEL a=b"]


async def test_a_trigger_whose_command_nobody_declared_is_told(bench: Bench) -> None:
    await bench.build("FROM scratch\nONBUILD RUN make\n", tag="base")
    with pytest.raises(DockerfileError, match="Dockerfile:1: nothing is declared for RUN make"):
        await bench.build(f"FROM oci:{bench.layout}:base\n")


async def test_a_stage_has_the_arguments_of_the_stage_that_it_begins_with(bench: Bench) -> None:
    bench.write("f", "1")
    text = "FROM scratch AS a\nARG NAME=f\nFROM a\nCOPY $NAME /x\nRUN make\nFROM scratch\nCOPY f /$NAME\n"
    image = await bench.build(text, target="1", effects={"make": Effect()})
    assert image.data == {"x": b"1"}
    assert image.history[-1] == "RUN |1 NAME=f /bin/sh -c make # buildkit"
    assert (await bench.build(text, effects={"make": Effect()})).data == {"f": b"1"}  # another stage has not


async def keep_image(bench: Bench, config: dict[str, object], *layers: bytes) -> None:
    """Keep an image as anybody may have made it, and call it `base`."""
    described = [Descriptor.of(layer, media_types.OCI_LAYER) for layer in layers]
    rootfs = {"type": "layers", "diff_ids": [each.digest for each in described]}
    raw = json.dumps({"architecture": "amd64", "os": "linux", "config": config, "rootfs": rootfs}).encode()
    whole = Descriptor.of(raw, media_types.OCI_CONFIG)
    document = manifest_document(whole, described)
    manifest = Descriptor.of(document, media_types.OCI_MANIFEST)
    store = LayoutStore(bench.layout, create=True)
    for each, data in zip((*described, whole, manifest), (*layers, raw, document), strict=True):
        await store.put(BytesContent(each, data))
    await store.tag(manifest, "base")


@pytest.mark.parametrize(
    "config", [{"Labels": []}, {"ExposedPorts": ""}, {"Volumes": 0}, {"Labels": {"\ud800": "x"}}]
)
async def test_a_base_whose_config_no_image_has_is_refused(bench: Bench, config: dict[str, object]) -> None:
    await keep_image(bench, config)
    with pytest.raises(ContentError, match="Dockerfile:1: a base's config is malformed"):
        await bench.build(f"FROM oci:{bench.layout}:base\nLABEL a=b\nEXPOSE 80\nVOLUME /x\n")


async def test_a_file_whose_name_another_one_took_is_not_taken_for_that_one(bench: Bench) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for data in (b"1", b"2"):
            info = tarfile.TarInfo("a")
            info.size = 1
            tar.addfile(info, io.BytesIO(data))
            link = tarfile.TarInfo(f"link{data.decode()}")
            link.type, link.linkname = tarfile.LNKTYPE, "a"
            tar.addfile(link)
    await keep_image(bench, {}, out.getvalue())
    image = await bench.build(f"FROM scratch\nCOPY --from=oci:{bench.layout}:base a link2 /x/\n")
    assert image.data == {"x/a": b"2", "x/link2": b"2"}
    with pytest.raises(ContentError, match="Dockerfile:2: 'a' is there twice in a layer"):
        await bench.build(f"FROM scratch\nCOPY --from=oci:{bench.layout}:base link1 /x\n")
