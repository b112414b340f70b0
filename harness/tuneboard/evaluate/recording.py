"""Record: each task's requests, built once by lm-eval, with the identity of every request and document."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tuneboard.errors import DataError, TuneboardError
from tuneboard.evaluate.request import EvaluateRequest
from tuneboard.records import CellKey, Document, TaskRef, cluster_name, fingerprint
from tuneboard.suites import LoadedTasks, build_requests, with_prompt_settings


@dataclass(frozen=True, slots=True)
class Ask:
    """One distinct request of a task."""

    hash: str
    kind: str
    arguments: tuple[Any, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class RecordedTask:
    """A task with its requests."""

    task: Any
    """lm-eval's ``Task``; its ``instances`` are those of ``documents``."""
    ref: TaskRef
    documents: tuple[Document, ...]
    instances: Mapping[int, tuple[Any, ...]]
    """lm-eval's ``Instance``s of each document id, in their order."""
    hashes: Mapping[int, tuple[tuple[str, ...], ...]]
    """Per document id and instance: the request hash of each repeat."""
    asks: Mapping[str, Ask]
    """Distinct requests by hash."""
    document_set: str
    """``all``, or a hash over the document ids of a limited set."""
    generation: Mapping[str, Any]
    """Generation settings that were given beside the task's own, by the suite or by the user."""

    def subset(self, doc_ids: Collection[int]) -> RecordedTask:
        """Return the same task with these of its documents alone, as if no others had been asked for."""
        chosen = sorted(doc_ids)
        hashes = {doc: self.hashes[doc] for doc in chosen}
        asked = {one for groups in hashes.values() for repeats in groups for one in repeats}
        return replace(
            self,
            documents=tuple(document for document in self.documents if document.doc_id in hashes),
            instances={doc: self.instances[doc] for doc in chosen},
            hashes=hashes,
            asks={one: ask for one, ask in self.asks.items() if one in asked},
            document_set="all" if len(chosen) == self.ref.n_docs else fingerprint(chosen),
        )

    def key(self, candidate: str, request: EvaluateRequest, dtype: str, quantization: str | None) -> CellKey:
        """Return the identity of this task's cell for a candidate."""
        sampled = any(is_sampled(ask.kind, ask.arguments) for ask in self.asks.values())
        given = (dict(self.generation), request.seed if sampled else None, request.max_length)
        return CellKey(
            candidate=candidate,
            task=self.ref.fingerprint,
            generation=fingerprint(*given),
            engine=request.engine,
            dtype=dtype,
            quantization=quantization,
            repeat=request.repeat,
            documents=self.document_set,
        )


def record(name: str, loaded: LoadedTasks, request: EvaluateRequest, chat: Any | None) -> RecordedTask:
    """Build a task's requests.

    Args:
        name: Of a task in ``loaded``.
        loaded: From ``suites.load_tasks``.
        request: What is asked for.
        chat: Renders chats (anything with ``apply_chat_template`` and ``chat_template``); None without.

    Raises:
        DataError: The task's own code or templates cannot make prompts of its documents.
    """
    try:
        return _record(name, loaded, request, chat)
    except TuneboardError:
        raise
    except Exception as error:  # a task's own code may raise anything
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"task '{name}' cannot write its prompts: {type(error).__name__}: {reason}; check its YAML and its data"
        ) from error


def _record(name: str, loaded: LoadedTasks, request: EvaluateRequest, chat: Any | None) -> RecordedTask:
    task, ref = loaded.tasks[name], loaded.refs[name]
    doc_ids = loaded.doc_ids[name]
    prompts = request.prompts
    instances = build_requests(
        task,
        doc_ids,
        system_instruction=prompts.system_instruction,
        apply_chat_template=chat is not None,
        fewshot_as_multiturn=prompts.fewshot_as_multiturn if chat is not None else False,
        chat_template=chat.apply_chat_template if chat is not None else None,
    )
    by_doc: defaultdict[int, list[Any]] = defaultdict(list)
    for instance in instances:
        by_doc[instance.doc_id].append(instance)
    for group in by_doc.values():
        group.sort(key=lambda instance: instance.idx)
    asks: dict[str, Ask] = {}
    hashes = {doc: tuple(_hashes(one, request, asks) for one in group) for doc, group in by_doc.items()}
    settings = {
        "system_instruction": prompts.system_instruction,
        "chat_template": chat.chat_template if chat is not None else None,
        "multiturn": chat is not None and prompts.fewshot_as_multiturn,
    }
    whole = len(doc_ids) == ref.n_docs
    return RecordedTask(
        task=task,
        ref=with_prompt_settings(ref, settings),
        documents=_documents(name, task, by_doc),
        instances={doc: tuple(group) for doc, group in by_doc.items()},
        hashes=hashes,
        asks=asks,
        document_set="all" if whole else fingerprint(list(doc_ids)),
        generation=loaded.generation[name],
    )


def _hashes(instance: Any, request: EvaluateRequest, asks: dict[str, Ask]) -> tuple[str, ...]:
    kind = instance.request_type
    arguments = tuple(instance.args)
    sampled = is_sampled(kind, arguments)
    out = []
    for repeat in range(instance.repeats or 1):
        # Greedy repeats are one request; sampled ones differ by their number and seed.
        which = (instance.doc_id, repeat, request.seed, request.repeat) if sampled else ()
        digest = fingerprint(kind, arguments, which)
        asks.setdefault(digest, Ask(digest, kind, arguments, int(digest[:12], 16)))
        out.append(digest)
    return tuple(out)


def is_sampled(kind: str, arguments: tuple[Any, ...]) -> bool:
    """Tell whether chance has a part in a request's answer."""
    if kind != "generate_until":
        return False
    settings = arguments[1]
    do_sample = settings.get("do_sample")
    return bool(do_sample) if do_sample is not None else float(settings.get("temperature") or 0.0) > 0


def _documents(name: str, task: Any, by_doc: Mapping[int, list[Any]]) -> tuple[Document, ...]:
    from lm_eval.utils import handle_non_serializable, hash_string

    column = (task.config.metadata or {}).get("cluster")
    seen: Counter[str] = Counter()
    out = []
    for doc_id, group in sorted(by_doc.items()):
        doc = group[0].doc
        text = json.dumps(doc, indent=2, default=handle_non_serializable, ensure_ascii=False)
        doc_hash = hash_string(text)
        prompt = str(group[0].args[0])
        pairs = group[0].request_type == "loglikelihood"
        out.append(
            Document(
                doc_id=doc_id,
                doc_hash=doc_hash,
                occurrence=seen[doc_hash],
                prompt_hash=hash_string(prompt),
                prompt=prompt,
                choices=tuple(str(one.args[1]) for one in group) if pairs else (),
                target=str(task.doc_to_target(doc)),
                cluster=None if column is None else _cluster(name, column, doc_id, doc),
            )
        )
        seen[doc_hash] += 1
    return tuple(out)


def _cluster(task: str, column: str, doc_id: int, doc: Mapping[str, Any]) -> str:
    if column not in doc:
        raise DataError(
            f"task '{task}' names the cluster column '{column}', which document {doc_id} does not have; "
            f"its columns are {', '.join(doc)}: name one of them under metadata"
        )
    return cluster_name(doc[column], doc_id)
