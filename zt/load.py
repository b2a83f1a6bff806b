"""Policy files into a ``Policy``: the only reader of policy YAML.

A path is a directory (every ``*.yaml`` and ``*.yml`` below it, hidden ones left out) or one file.
There are no includes. Files are read as UTF-8; a file holds one document or several.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from yaml import MappingNode, Node, ScalarNode

from zt.decode import (
    MAPPING,
    TEXT,
    Context,
    Entries,
    GivenUp,
    Invalid,
    decoder_of,
    entries,
    kind_of,
)
from zt.memory import collector_paused
from zt.model import (
    API_VERSION,
    KINDS,
    AgentAccessPolicy,
    Document,
    ExternalService,
    Mesh,
    OperatorAccessPolicy,
    OperatorRoleBinding,
    Policy,
    Rollout,
    Service,
    ServiceAccessPolicy,
)
from zt.nearest import did_you_mean, shown
from zt.nodes import nodes
from zt.position import Finding, Severity, Where
from zt.values import parse_name

MAX_FILE_BYTES = 64 << 20
_SUFFIXES = (".yaml", ".yml")
_KEYS = ("apiVersion", "kind", "metadata", "spec")
_KINDS = {kind.KIND: kind for kind in KINDS}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was read: the policy, or ``None`` with the errors that kept it from being one."""

    policy: Policy | None
    findings: tuple[Finding, ...]


class PolicyError(Exception):
    """A policy that can't be used; carries its findings."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        """Keep the findings; the message lists them."""
        self.findings = tuple(findings)
        super().__init__("\n".join(map(str, self.findings)))


def load(path: str | os.PathLike[str]) -> Loaded:
    """Read a policy directory or file. Everything wrong with it is a finding, not an exception."""
    root = Path(path)
    findings: list[Finding] = []
    texts = list(_texts(root, findings))
    if findings:
        findings.extend(load_texts(texts).findings if texts else ())
        return _failed(findings)
    if not texts:
        return _failed([_error("no-policy", Where(_shown(root), 1, 1), "holds no .yaml file")])
    return load_texts(texts)


def load_policy(path: str | os.PathLike[str]) -> Policy:
    """Read a policy.

    Raises:
        PolicyError: if anything in it is wrong.
    """
    loaded = load(path)
    if loaded.policy is None:
        raise PolicyError(loaded.findings)
    return loaded.policy


def policy_texts(path: str | os.PathLike[str]) -> dict[str, str]:
    """Texts of the files that ``load`` reads, by their paths below the directory.

    Raises:
        PolicyError: if one can't be read.
    """
    root = Path(path)
    findings: list[Finding] = []
    texts = {name: data.decode("utf-8") for name, data in _texts(root, findings)}
    if findings:
        raise PolicyError(findings)
    above = root if root.is_dir() else root.parent
    return {Path(name).relative_to(above).as_posix(): text for name, text in texts.items()}


def load_texts(texts: Iterable[tuple[str, bytes]]) -> Loaded:
    """Read a policy from the contents of its files, as ``(name, bytes)``."""
    documents: list[Document] = []
    findings: list[Finding] = []
    with collector_paused():
        for name, data in texts:
            context = Context(name, budget=len(data) + 1)
            documents.extend(_documents(context, data))
            findings.extend(context.findings)
    findings.extend(_second_documents(documents))
    # Where a document could not be read, it may have been the Mesh.
    if not findings and not any(isinstance(document, Mesh) for document in documents):
        where = documents[0].where.field("name") if documents else Where("<policy>", 1, 1)
        findings.append(_error("no-mesh", where, "no document of kind Mesh"))
    return _failed(findings) if findings else Loaded(assemble(documents), ())


def assemble(documents: Iterable[Document]) -> Policy:
    """Put documents in the order that makes compiled output independent of files."""
    everything = sorted(documents, key=lambda document: document.name)

    def of(kind: type[T]) -> tuple[T, ...]:
        return tuple(document for document in everything if isinstance(document, kind))

    (mesh,) = of(Mesh)
    return Policy(
        mesh=mesh,
        services=tuple(sorted(of(Service), key=lambda item: (item.cluster, item.namespace))),
        externals=of(ExternalService),
        access=of(ServiceAccessPolicy),
        operators=of(OperatorAccessPolicy),
        bindings=of(OperatorRoleBinding),
        agents=of(AgentAccessPolicy),
        rollout=next(iter(of(Rollout)), None),
    )


def _texts(root: Path, findings: list[Finding]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files; what can't be read becomes a finding."""

    def unreadable(error: OSError, path: str | Path = root) -> None:
        where = Where(_shown(error.filename or path), 1, 1)
        findings.append(_error("unreadable", where, f"cannot be read: {error.strerror}"))

    for file in _files(root, unreadable):
        try:
            data = _read(file)
        except OSError as error:
            unreadable(error, file)
        else:
            yield _shown(file), data


def _files(root: Path, unreadable: Callable[[OSError], None]) -> Iterator[Path]:
    if not root.is_dir():
        yield root
        return
    for folder, folders, files in os.walk(root, onerror=unreadable):
        # ConfigMap mounts hold the files in hidden folders, and again as links.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if Path(folder, name).is_symlink():
                message = "it is a link to a folder, and those are not followed"
                unreadable(OSError(errno.ELOOP, message, str(Path(folder, name))))
        for name in sorted(files):
            if name.endswith(_SUFFIXES) and not name.startswith("."):
                yield Path(folder, name)


def _read(file: Path) -> bytes:
    """The contents of a regular file: to open any other may block for ever."""
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(file))
    if status.st_size > MAX_FILE_BYTES:
        raise OSError(errno.EFBIG, f"it is larger than {MAX_FILE_BYTES >> 20} MiB", str(file))
    return file.read_bytes()


def _shown(path: str | Path) -> str:
    """A path for messages: names of files need not be Unicode."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _error(code: str, where: Where, message: str) -> Finding:
    return Finding(Severity.ERROR, code, where, message)


def _failed(findings: Iterable[Finding]) -> Loaded:
    ordered = sorted(findings, key=lambda f: (f.where.file, f.where.line, f.where.column))
    return Loaded(None, tuple(ordered))


def _documents(context: Context, data: bytes) -> Iterator[Document]:
    """Decode the documents of one file."""
    empty = True
    try:
        for node in nodes(context, data):
            empty = False
            context.document, context.rule = "", None
            try:
                yield _document(context, node)
            except Invalid:
                continue
    except GivenUp:
        return
    if empty and not context.findings:
        where = Where(context.file, 1, 1)
        context.findings.append(_error("empty-file", where, "holds no document"))


def _document(context: Context, node: Node) -> Document:
    """Decode one document: its header, then its spec by kind."""
    header = entries(node, context)
    for name, (key_node, _) in header.items():
        if name not in _KEYS:
            message = f"{shown(name)} is not a key of a document" + did_you_mean(name, _KEYS)
            context.error("unknown-key", key_node, message)
    kind = _kind(context, node, header)
    name_node = _name(context, node, header)
    context.document = name_node.value
    if "spec" not in header:
        message = f"{kind.KIND} {name_node.value!r} has no 'spec'"
        raise context.error("missing-key", node, message)
    spec = header["spec"][1]
    decode = decoder_of(cast("type", kind))
    return cast("Document", decode(_with_name(context, spec, name_node), context))


def _with_name(context: Context, spec: Node, name: Node) -> Node:
    """The spec with the document's name in it, which is decoded like any other field."""
    if not isinstance(spec, MappingNode) or spec.tag != MAPPING:
        message = f"expected a mapping under 'spec', found {kind_of(spec)}"
        raise context.error("wrong-type", spec, message)
    for key, _ in spec.value:
        if key.value == "name":
            raise context.error("unknown-key", key, "the name stands in metadata, not in spec")
    key = ScalarNode(TEXT, "name", name.start_mark, name.end_mark)
    return MappingNode(spec.tag, [*spec.value, (key, name)], spec.start_mark, spec.end_mark)


def _text(context: Context, node: Node, what: str) -> str:
    """The text of a scalar of the header."""
    if not isinstance(node, ScalarNode):
        raise context.error("wrong-type", node, f"{what} should be text")
    return str(node.value)


def _kind(context: Context, node: Node, header: Entries) -> type[Document]:
    if "apiVersion" not in header:
        raise context.error("wrong-version", node, f"apiVersion should be {API_VERSION!r}")
    version = _text(context, header["apiVersion"][1], "apiVersion")
    if version != API_VERSION:
        message = f"apiVersion should be {API_VERSION!r} instead of {shown(version)}"
        raise context.error("wrong-version", header["apiVersion"][1], message)
    if "kind" not in header:
        raise context.error("missing-key", node, "the document has no 'kind'")
    kind = _text(context, header["kind"][1], "kind")
    if kind not in _KINDS:
        message = f"{shown(kind)} is not a kind" + did_you_mean(kind, _KINDS)
        raise context.error("wrong-kind", header["kind"][1], message)
    return _KINDS[kind]


def _name(context: Context, node: Node, header: Entries) -> Node:
    if "metadata" not in header:
        raise context.error("missing-key", node, "the document has no 'metadata' with a 'name'")
    metadata = entries(header["metadata"][1], context)
    for key, (key_node, _) in metadata.items():
        if key != "name":
            context.error(
                "unknown-key",
                key_node,
                f"{shown(key)} is not a key of metadata: 'name' is the only one",
            )
    if "name" not in metadata:
        raise context.error("missing-key", header["metadata"][1], "metadata has no 'name'")
    name = metadata["name"][1]
    try:
        parse_name(_text(context, name, "metadata.name"))
    except ValueError as error:
        raise context.error("bad-value", name, str(error)) from None
    return name


def _second_documents(documents: list[Document]) -> Iterator[Finding]:
    """There is one Mesh and at most one Rollout."""
    for kind in (Mesh, Rollout):
        found = [document for document in documents if isinstance(document, kind)]
        for extra in found[1:]:
            first = found[0].where.field("name")
            message = f"a second {kind.KIND}: the first is at {first}"
            yield _error("second-document", extra.where.field("name"), message)
