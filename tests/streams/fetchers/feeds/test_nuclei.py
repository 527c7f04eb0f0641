"""What the Nuclei fetcher makes of files, folders and git repositories, and what it refuses."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.encoding import EncodedEvent
from schemas.errors import BadConfiguration, RetryLater
from schemas.events import Template
from streams.fetchers.base import limits
from streams.fetchers.base.feed import Batch, FeedState, LeftOut, RejectedItem, UnchangedFile, no_progress
from streams.fetchers.feeds import nuclei
from streams.fetchers.sources import git
from streams.fetchers.sources.file_tree import TreeFile, parse_files
from tests.streams.fetchers.sources.test_http import serving

TEMPLATE = """\
id: CVE-2021-44228
info:
  name: Log4Shell
  severity: Critical
  description: |
    A remote code execution.
  impact: Everything is lost.
  remediation: Update it.
  tags: cve,cve2021, rce,attack.t1190
  classification:
    cve-id: CVE-2021-44228,cve-2021-45046
  metadata:
    mitre-attack: [T1059.001]
    shodan-query: T9999
http:
  - method: GET
"""


def template(name: str, /, **info: str) -> str:
    lines = "".join(f"  {key}: {value}\n" for key, value in ({"name": name, "severity": "info"} | info).items())
    return f"id: {name}\ninfo:\n{lines}"


def put(root: Path, files: dict[str, Any]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def read(source: Any, state: FeedState | None = None, cache: Path = Path("unused")) -> Batch:
    return nuclei.FEED.read(str(source), state or FeedState(), cache, no_progress)


def templates(batch: Batch) -> list[Any]:
    return [o.event for o in batch.outcomes or () if isinstance(o, EncodedEvent)]


def ids(batch: Batch) -> list[str]:
    return [event.id.removeprefix("nuclei-templates:") for event in templates(batch)]


def rejected(batch: Batch) -> dict[str, str]:
    found = [o for o in batch.outcomes or () if isinstance(o, RejectedItem)]
    return {o.origin.removeprefix("nuclei-templates:"): o.error.reason for o in found}


def left_out(batch: Batch) -> dict[str, str]:
    found = [o for o in batch.outcomes or () if isinstance(o, LeftOut)]
    return {o.origin.removeprefix("nuclei-templates:"): o.reason for o in found}


def test_a_template_has_its_texts_severity_tags_cves_and_techniques(tmp_path: Path) -> None:
    assert templates(read(put(tmp_path, {"http/cves/a.yaml": TEMPLATE}))) == [
        Template(
            id="nuclei-templates:CVE-2021-44228",
            feed="nuclei-templates",
            name="Log4Shell",
            text="A remote code execution.\n\nEverything is lost.\n\nUpdate it.",
            severity="critical",
            tags=("cve", "cve2021", "rce", "attack.t1190"),
            techniques=("T1059.001", "T1190"),
            cves=("CVE-2021-44228", "CVE-2021-45046"),
            path="http/cves/a.yaml",
        )
    ]


OTHER = {
    "sigma.yaml": ("title: x\nid: 1-2\nlogsource: {product: windows}\n", "not-a-template"),
    "pod.yaml": ("id: my-pod\nkind: Pod\n", "not-a-template"),
    "profiles/p.yml": ("severity: [high]\n", "not-a-template"),
    "w.yaml": (template("w") + "workflows:\n  - template: a.yaml\n", "workflow"),
    "workflows/w.yaml": (template("w") + "workflows:\n", "workflow"),
    ".github/w.yaml": (template("w"), "hidden"),
    "x/.y.yaml": (template("w"), "hidden"),
}


@pytest.mark.parametrize("path", OTHER)
def test_what_is_no_template_is_left_out_and_counted_also_when_it_is_not_read_again(
    path: str, tmp_path: Path
) -> None:
    text, reason = OTHER[path]
    put(tmp_path, {path: text, "workflows/a.yml": template("a"), "helpers/b.YAML": template("b"), "c.md": "# no"})
    first = read(tmp_path)
    second = read(put(tmp_path, {"new.yaml": template("new")}), first.state)
    assert (ids(first), left_out(first), rejected(first)) == (["a", "b"], {path: reason}, {})
    assert ids(second) == ["new"]
    assert [o.reason for o in second.outcomes or () if isinstance(o, UnchangedFile)].count(reason) == 1


def test_of_several_documents_the_first_with_an_info_counts(tmp_path: Path) -> None:
    text = f"---\nid: none\n---\n{template('first')}---\n{template('second')}"
    assert ids(read(put(tmp_path, {"a.yaml": text}))) == ["first"]


ODD = """\
id: CVE-2021-44228
info:
  name: [x]
  severity: [high]
  description: {a: b}
  impact: Kept.
  tags: [cve, null, '', [x], {y: z}, rce]
  classification:
    cve-id: [null, CVE-2021-44228, '', [x]]
  metadata:
    - verified
"""


def test_what_can_not_be_used_of_a_template_is_left_out_and_the_rest_is_kept(tmp_path: Path) -> None:
    metadata = "  metadata: {verified: true, mitre: [T1059.001, [x], null], vendor: [a, b], flags: {x: y}}\n"
    odd = ODD.replace("  metadata:\n    - verified\n", metadata).replace("44228", "44229")
    one, two = templates(read(put(tmp_path, {"a.yaml": ODD, "b.yaml": odd})))
    assert one == Template(
        id="nuclei-templates:CVE-2021-44228",
        feed="nuclei-templates",
        name="CVE-2021-44228",
        text="Kept.",
        tags=("cve", "rce"),
        cves=("CVE-2021-44228",),
        path="a.yaml",
    )
    assert two.techniques == ("T1059.001",)


def test_a_list_of_tags_is_as_good_as_a_text(tmp_path: Path) -> None:
    [found] = templates(read(put(tmp_path, {"a.yaml": template("a", tags="[x, 'y,z', x]")})))
    assert found.tags == ("x", "y", "z")


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=80)
    | st.lists(
        st.sampled_from(
            ["id: x\n", "info:\n", "  name: ", "  tags: ", "  severity: ", "  metadata: {mitre: ", "workflows:\n",
             "[", "]", "}", "{", "null", "&a ", "*a", "T1059", "CVE-2021-44228", "a,b", "\n", "--- ", "- ", "''"]
        ),
        max_size=14,
    ).map(lambda parts: "".join(parts).encode())
)  # fmt: skip
def test_any_bytes_are_a_template_or_rejected_or_left_out(data: bytes) -> None:
    file = TreeFile("a.yaml", "1", lambda: data)
    [outcome] = parse_files([file], {}, nuclei.parse_template, "nuclei-templates").outcomes
    assert not isinstance(outcome, UnchangedFile)
    assert not isinstance(outcome, RejectedItem) or outcome.error.reason != "not-foreseen"


BAD = {
    "a/tabs.yaml": ("id: x\ninfo:\n\tname: y\n", "bad-yaml"),
    "a/cut.yaml": ("id: x\ninfo: {name: [y", "bad-yaml"),
    "a/deep.yaml": ("id: x\ninfo: " + "[" * 100_000, "bad-yaml"),
    "a/later.yaml": (template("x") + "---\na: [", "bad-yaml"),
    "a/list.yaml": ("- id: x\n", "not-an-object"),
    "a/empty.yaml": ("", "no-id"),
    "a/comment.yaml": ("# nothing\n", "no-id"),
    "a/nameless.yaml": ("info:\n  name: x\n", "no-id"),
    "a/null.yaml": ("id: ~\ninfo:\n  name: x\n", "no-id"),
    "a/id.yaml": ("id: ../../etc\ninfo:\n  name: x\n", "bad-id"),
    "a/ids.yaml": ("id: [x]\ninfo:\n  name: x\n", "wrong-type"),
    "a/info.yaml": ("id: x\ninfo: y\n", "wrong-type"),
    "a/name.yaml": (template("x", name="y" * 400_000), "too-long"),
    "a/words.yaml": (template("x", tags=",".join(f"t{n}" for n in range(20_000))), "too-many"),
    "a/text.yaml": (template("x", description="y" * 1_000_000), "too-large"),
    "a/file.yaml": (template("x") + "#" * limits.MAX_FILE_BYTES, "too-large"),
    "a/ok2.yaml": (template("ok"), "duplicate-id"),
}


@pytest.mark.parametrize("path", BAD)
def test_a_bad_file_is_rejected_with_its_reason_and_the_rest_goes_through(path: str, tmp_path: Path) -> None:
    text, reason = BAD[path]
    batch = read(put(tmp_path, {"a/ok.yaml": template("ok"), path: text, "b/good.yaml": template("good")}))
    assert (ids(batch), rejected(batch)) == (["good", "ok"], {path: reason})


def test_links_out_of_the_folder_are_refused_and_links_inside_are_nothing(tmp_path: Path) -> None:
    put(tmp_path, {"outside/secret.yaml": template("secret"), "in/a.yaml": template("a")})
    root = tmp_path / "in"
    (root / "file.yaml").symlink_to("../outside/secret.yaml")
    (root / "absolute.yaml").symlink_to(tmp_path / "outside/secret.yaml")
    (root / "folder.yaml").symlink_to("../outside")
    (root / "folder").symlink_to("../outside")
    (root / "inside.yaml").symlink_to("a.yaml")
    (root / "loop.yaml").symlink_to("loop.yaml")
    batch = read(root)
    assert ids(batch) == ["a"]
    assert rejected(batch) == dict.fromkeys(("absolute.yaml", "file.yaml", "folder.yaml"), "path-escape")
    assert left_out(batch) == {"inside.yaml": "link", "loop.yaml": "link"}


def test_a_pipe_does_not_hang_and_is_rejected(tmp_path: Path) -> None:
    put(tmp_path, {"a.yaml": template("a")})
    os.mkfifo(tmp_path / "pipe.yaml")
    batch = read(tmp_path)
    assert (ids(batch), rejected(batch)) == (["a"], {"pipe.yaml": "not-a-file"})


def test_a_file_name_that_is_not_text_is_rejected(tmp_path: Path) -> None:
    put(tmp_path, {os.fsdecode(b"\xff.yaml"): template("a"), "line\nfeed.yaml": template("b")})
    assert rejected(read(tmp_path)) == {"?.yaml": "path-escape", "line?feed.yaml": "path-escape"}


def test_files_that_did_not_change_are_not_read_again(tmp_path: Path) -> None:
    put(tmp_path, {"a.yaml": template("a"), "b.yaml": template("b"), "c.yaml": "- bad", "d.yaml": template("a")})
    first = read(tmp_path)
    put(tmp_path, {"b.yaml": template("b", severity="high")})
    second = read(tmp_path, first.state)
    assert ids(second) == ["b"]
    assert [o for o in second.outcomes or () if isinstance(o, UnchangedFile)] == [
        UnchangedFile("", "not-an-object", "nuclei-templates:c.yaml"),
        UnchangedFile("nuclei-templates:a"),
        UnchangedFile("nuclei-templates:a", "duplicate-id", "nuclei-templates:d.yaml"),
    ]


def test_a_duplicate_takes_over_when_the_first_is_gone_and_gives_way_to_an_earlier_one(tmp_path: Path) -> None:
    put(tmp_path, {"b.yaml": template("x", name="first"), "c.yaml": template("x", name="second")})
    first = read(tmp_path)
    assert rejected(first) == {"c.yaml": "duplicate-id"}
    (tmp_path / "b.yaml").unlink()
    second = read(tmp_path, first.state)
    assert [event.name for event in templates(second)] == ["second"]
    put(tmp_path, {"a.yaml": template("x", name="third")})
    third = read(tmp_path, second.state)
    assert [event.name for event in templates(third)] == ["third"]
    assert rejected(third) == {"c.yaml": "duplicate-id"}


# git


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = put(tmp_path / "upstream", {"http/a.yaml": template("a"), "b.yaml": template("b")})
    run(root, "init", "--quiet")
    commit(root)
    return root


def run(root: Path, *words: str) -> str:
    who = ["-c", "user.name=n", "-c", "user.email=e@x.test", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", "-C", root, *who, *words], check=True, capture_output=True, text=True).stdout


def commit(root: Path) -> str:
    run(root, "add", "--all")
    run(root, "commit", "--quiet", "--message", "x")
    return run(root, "rev-parse", "HEAD").strip()


def test_a_repository_gives_its_templates_with_the_commit_as_release(repository: Path, tmp_path: Path) -> None:
    batch = read(repository.as_uri(), cache=tmp_path / "cache")
    assert ids(batch) == ["a", "b"]
    assert {event.release for event in templates(batch)} == {batch.release}
    assert batch.release == run(repository, "rev-parse", "HEAD").strip()


def test_the_same_commit_is_not_read_again_and_a_new_one_only_where_it_changed(
    repository: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    first = read(repository.as_uri(), cache=cache)
    assert read(repository.as_uri(), first.state, cache).outcomes is None
    put(repository, {"b.yaml": template("b", severity="high"), "c.yaml": template("c")})
    (repository / "http/a.yaml").unlink()
    commit(repository)
    second = read(repository.as_uri(), first.state, cache)
    assert (ids(second), len(second.outcomes or ())) == (["b", "c"], 2)


def test_a_history_that_was_rewritten_does_not_matter(repository: Path, tmp_path: Path) -> None:
    first = read(repository.as_uri(), cache=tmp_path / "cache")
    shutil.rmtree(repository / ".git")
    run(repository, "init", "--quiet")
    put(repository, {"c.yaml": template("c")})
    commit(repository)
    second = read(repository.as_uri(), first.state, tmp_path / "cache")
    assert (ids(second), len(second.outcomes or ())) == (["c"], 3)


def test_nothing_of_a_repository_is_checked_out_and_its_links_out_are_refused(
    repository: Path, tmp_path: Path
) -> None:
    (repository / "evil.yaml").symlink_to("/etc/passwd")
    (repository / "http/up.yaml").symlink_to("../../x.yaml")
    (repository / "http/ok.yaml").symlink_to("../b.yaml")
    put(repository, {"big.yaml": template("big") + "#" * limits.MAX_FILE_BYTES})
    commit(repository)
    batch = read(repository.as_uri(), cache=tmp_path / "cache")
    assert rejected(batch) == {"evil.yaml": "path-escape", "http/up.yaml": "path-escape", "big.yaml": "too-large"}
    assert ids(batch) == ["a", "b"]
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.suffix == ".yaml" or p.is_symlink()]


def test_a_tree_with_a_path_out_of_it_is_refused(repository: Path, tmp_path: Path) -> None:
    blob = run(repository, "rev-parse", "HEAD:b.yaml").strip()
    inner = git_object(repository, b"100644 up.yaml\0" + bytes.fromhex(blob))
    outer = git_object(repository, b"40000 ..\0" + bytes.fromhex(inner))
    run(repository, "update-ref", "HEAD", run(repository, "commit-tree", outer, "-m", "evil").strip())
    assert rejected(read(repository.as_uri(), cache=tmp_path / "cache")) == {"../up.yaml": "path-escape"}


def git_object(root: Path, content: bytes, kind: str = "tree") -> str:
    command = ["git", "-C", str(root), "hash-object", "-w", "-t", kind, "--literally", "--stdin"]
    return subprocess.run(command, input=content, check=True, capture_output=True).stdout.decode().strip()


def git_tree(root: Path, entries: Iterable[tuple[str, str]]) -> str:
    """A tree object: (name, id) of files, whose names end with `.yaml`, and of folders."""
    lines = [
        f"{'100644' if name.endswith('.yaml') else '40000'} {name}\0".encode() + bytes.fromhex(oid)
        for name, oid in entries
    ]
    return git_object(root, b"".join(lines))


def commit_tree(root: Path, tree: str) -> None:
    run(root, "update-ref", "HEAD", run(root, "commit-tree", tree, "-m", "x").strip())


def test_many_names_of_one_content_are_read_and_kept_once(repository: Path, tmp_path: Path) -> None:
    good = git_object(repository, template("good").encode(), "blob")
    bad = git_object(repository, b"id: [" + b"#" * 1_000_000, "blob")
    files = {f"{kind}{n:04}.yaml": oid for kind, oid in (("bad", bad), ("good", good)) for n in range(1_500)}
    commit_tree(repository, git_tree(repository, files.items()))
    batch = read(repository.as_uri(), cache=tmp_path / "cache")
    assert (ids(batch), len(batch.outcomes or ())) == (["good"], 3_000)
    assert rejected(batch) == {"bad0000.yaml": "bad-yaml"} | {
        f"good{n:04}.yaml": "duplicate-id" for n in range(1, 1_500)
    }
    assert list(left_out(batch).values()) == ["bad-yaml"] * 1_499
    assert sum(len(o.payload) for o in batch.outcomes or () if isinstance(o, RejectedItem)) <= 100_000
    again = read(repository.as_uri(), FeedState(files=batch.state.files), tmp_path / "cache")
    assert again.outcomes is None, "nothing is read again"


def test_a_small_tree_that_unfolds_to_many_files_is_counted_before_anything_is_read(
    repository: Path, tmp_path: Path
) -> None:
    blob = git_object(repository, b"never read", "blob")
    tree = git_tree(repository, [(f"{n:03}.yaml", blob) for n in range(700)])
    commit_tree(repository, git_tree(repository, [(f"{n:03}", tree) for n in range(700)]))
    batch = read(repository.as_uri(), cache=tmp_path / "cache")
    assert batch.source_error
    assert batch.source_error.reason == "too-many-files"
    assert f"over {limits.MAX_TREE_ENTRIES} files, links and folders" in batch.source_error.detail


def test_folders_of_empty_folders_without_end_are_counted(repository: Path, tmp_path: Path) -> None:
    tree = git_tree(repository, [])
    for _ in range(12):
        tree = git_tree(repository, [(f"{n:02}", tree) for n in range(30)])
    commit_tree(repository, tree)
    batch = read(repository.as_uri(), cache=tmp_path / "cache")
    assert batch.source_error
    assert batch.source_error.reason == "too-many-files"


def test_too_many_bytes_are_counted_before_anything_is_read(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_TREE_BYTES", 50)
    for source in (repository.as_uri(), str(repository)):
        batch = read(source, cache=tmp_path / "cache")
        assert batch.source_error
        assert batch.source_error.detail.endswith("bytes together; the limit is 50")


def test_a_folder_of_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_TREE_ENTRIES", 2)
    batch = read(put(tmp_path, {f"{n}.yaml": template(f"t{n}") for n in range(3)}))
    assert batch.source_error
    assert batch.source_error.reason == "too-many-files"


def test_a_path_of_600_000_characters_is_one_dead_letter_and_the_rest_goes_through(
    repository: Path, tmp_path: Path
) -> None:
    blob = git_object(repository, template("long").encode(), "blob")
    commit_tree(repository, git_tree(repository, [("a" * 600_000 + ".yaml", blob), ("b.yaml", blob)]))
    batch = read(repository.as_uri(), cache=tmp_path / "cache")
    [(origin, reason)] = rejected(batch).items()
    assert (ids(batch), reason, len(origin) < 300, list(batch.state.files)) == (
        ["long"], "path-too-long", True, ["b.yaml"],
    )  # fmt: skip


def test_an_error_that_nobody_foresaw_in_one_file_is_the_letter_of_that_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def surprise(data: bytes, path: str, release: str) -> Template:
        if path == "b.yaml":
            raise ZeroDivisionError("surprise")
        return nuclei.parse_template(data, path, release)

    monkeypatch.setattr(nuclei, "FEED", dataclasses.replace(
        nuclei.FEED, collection=dataclasses.replace(nuclei.FEED.collection, parse=surprise)  # type: ignore[type-var]
    ))  # fmt: skip
    batch = read(put(tmp_path, {f"{name}.yaml": template(name) for name in "abc"}))
    assert (ids(batch), rejected(batch)) == (["a", "c"], {"b.yaml": "not-foreseen"})


def test_a_git_server_that_redirects_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "_SAFE", (*git._SAFE, "protocol.http.allow=always"))
    with serving() as other, serving() as site:
        path = "/x.git/info/refs?service=git-upload-pack"
        site.pages[path] = [(302, {"Location": other.url(path)}, b"")]
        with pytest.raises(RetryLater, match=r"git failed on http://127\.0\.0\.1"):
            git.fetch(site.url("/x.git"), tmp_path / "mirror")
        assert (len(site.asked), other.asked) == (1, [])


@pytest.mark.parametrize(
    "source",
    [
        "ext::sh -c touch% x",
        "--upload-pack=touch x",
        "-oProxyCommand=x@y:z",
        "fd::3",
        "http://x.test/a.git",
        "a@-b:c",
    ],
)
def test_an_address_that_could_run_something_is_no_source(source: str) -> None:
    assert not git.is_git_url(source)
    with pytest.raises(BadConfiguration, match="neither a folder nor a git address"):
        read(source)


def test_a_repository_that_is_not_there_says_what_git_said_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(RetryLater, match=r"does not (exist|appear to be)") as raised:
        read(f"file://me:secret@{tmp_path}/none", cache=tmp_path)
    assert "secret" not in str(raised.value)


def test_without_git_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadConfiguration, match="install git"):
        read("https://x.test/a.git", cache=tmp_path)
