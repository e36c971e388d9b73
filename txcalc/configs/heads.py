"""``architectures`` decides the head: a language model, a classifier, or the bare model."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Final, Literal

from txcalc.architecture import Head, Role
from txcalc.configs.reader import Reader, shown

Task = Literal[
    "causal_lm", "masked_lm", "seq2seq_lm", "base", "sequence_classification", "token_classification",
    "question_answering", "pretraining", "multiple_choice", "next_sentence", "encoder",
    "image_classification", "audio_classification", "masked_image",
]  # fmt: skip

_ENDINGS: Final[tuple[tuple[str, Task], ...]] = (
    ("ForCausalLM", "causal_lm"),
    ("WithLMHeadModel", "seq2seq_lm"),  # T5's first name for conditional generation
    ("LMHeadModel", "causal_lm"),
    ("ForMaskedLM", "masked_lm"),
    ("ForConditionalGeneration", "seq2seq_lm"),
    ("ForSequenceClassification", "sequence_classification"),
    ("ForTokenClassification", "token_classification"),
    ("ForQuestionAnswering", "question_answering"),
    ("ForMultipleChoice", "multiple_choice"),
    ("ForNextSentencePrediction", "next_sentence"),
    ("ForPreTraining", "pretraining"),
    ("ForImageClassification", "image_classification"),
    ("ForAudioClassification", "audio_classification"),
    ("ForMaskedImageModeling", "masked_image"),
    ("MTModel", "seq2seq_lm"),  # Marian
    ("EncoderModel", "encoder"),  # the encoder of an encoder-decoder type
    ("Model", "base"),
)


def task_of(r: Reader, default: Task, *, prefix: str = "") -> Task:
    """What the model is for, from the first entry of ``architectures``; ``default`` where there is none, and said.

    ``prefix``: what a class of this type is called before its task (``Bert``; several, where the type has several);
    another name is some other class.
    """
    names = r.config.get("architectures")
    if names is None or names == []:
        r.notes.append(f"no architectures in the config: taken as {default.replace('_', ' ')}")
        return default
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise r.error("architectures", f"is {shown(names)}; expected a list of class names")
    lowered, prefixes = names[0].lower(), prefix.lower().split()  # MPTForCausalLM is Mpt's
    for ending, task in _ENDINGS:
        if lowered in [each + ending.lower() for each in prefixes]:
            return task
    for ending, task in _ENDINGS:
        if names[0].endswith(ending):
            if prefix:
                r.reasons.append(
                    f"architectures = {names[0]}: not one of the {prefix.split()[0]} classes that txcalc knows"
                )
            return task
    r.reasons.append(f"architectures = {names[0]}: not a head that txcalc knows, taken as {default.replace('_', ' ')}")
    return default


def class_of(r: Reader, default: str, *others: str) -> str:
    """The first entry of ``architectures`` where it is one of these classes, else ``default``, and said."""
    names = r.config.get("architectures")
    if names is None or names == []:
        r.notes.append(f"no architectures in the config: taken as {default}")
        return default
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise r.error("architectures", f"is {shown(names)}; expected a list of class names")
    if names[0] not in (default, *others):
        r.reasons.append(f"architectures = {names[0]}: not one of the classes that txcalc knows, taken as {default}")
        return default
    return str(names[0])


def num_labels(r: Reader, default: int = 2) -> int:
    """Outputs of a classifier: ``num_labels`` where the config has it, else the entries of ``id2label``, else 2.

    transformers lets ``num_labels`` overrule an ``id2label`` of another length.
    """
    if r.config.get("num_labels") is not None:
        return r.integer("num_labels")
    if r.config.get("id2label") is None:
        return default
    if not r.mapping("id2label"):
        raise r.error("id2label", "is empty", "a classifier needs at least one label")
    return len(r.mapping("id2label"))


def causal_head(
    r: Reader,
    *,
    input_size: int,
    vocab_size: int,
    bias: bool = False,
    softcap: float | None = None,
    scale: float = 1.0,
    default: Task = "causal_lm",
    role: Role = "decoder",
    prefix: str = "",
    without: Container[Task] = (),
    answers: int | None = 2,
) -> Head | None:
    """The head of a decoder-only model, any task that decoder-only models are published with.

    ``prefix`` as in ``task_of``; ``without``: the tasks for which the type has no published class; ``answers``: outputs
    of the question-answering head, None: ``num_labels`` (GPT-J).
    """
    task = task_of(r, default, prefix=prefix)
    if task in without:
        r.reasons.append(f"a {task.replace('_', ' ')} head of {r.model_type} is nobody's published class")
    tied = has_tie(r) and r.flag("tie_word_embeddings")
    match task:
        case "base":
            return None
        case "sequence_classification":  # transformers' generic one: no bias, reads the last token
            return last_of_all(classifier(input_size, num_labels(r), role=role))
        case "token_classification":
            return classifier(input_size, num_labels(r), role=role, bias=True)
        case "question_answering":
            return classifier(input_size, answers or num_labels(r), role=role, bias=True)
        case "seq2seq_lm" if default != "seq2seq_lm":
            r.reasons.append(f"a conditional generation head is not known for {r.model_type}, taken as causal lm")
        case "masked_lm" | "pretraining" | "multiple_choice" | "next_sentence" | "encoder":
            r.reasons.append(f"a {task.replace('_', ' ')} head is not known for {r.model_type}, taken as causal lm")
    return Head(
        kind="lm",
        input_size=input_size,
        output_size=vocab_size,
        tied=tied,
        bias=bias,
        softcap=softcap,
        scale=scale,
        tied_to=role,
    )


OPTIONAL_TASKS: Final = {
    "sequence": "sequence_classification",
    "token": "token_classification",
    "question": "question_answering",
}


def published(prefix: str, tasks: str = "sequence token question") -> dict[str, Any]:
    """What ``causal_head`` takes for a type whose published classes are ``prefix`` with a causal language model, the
    bare model and ``tasks``."""
    return {"prefix": prefix, "without": {task for word, task in OPTIONAL_TASKS.items() if word not in tasks.split()}}


def published_text(r: Reader, prefix: str, *tasks: str) -> dict[str, Any]:
    """What ``causal_head`` takes for the text part of a type with towers, whose classes share a name with the whole's.

    They are ``prefix`` ForCausalLM, ``prefix`` TextModel and those of ``tasks``; ``prefix`` Model is the whole.
    """
    known = {f"{prefix}ForCausalLM", f"{prefix}TextModel", *(f"{prefix}{task}" for task in tasks)}
    names = r.config.get("architectures")
    if isinstance(names, list | tuple) and names and names[0] in (f"{prefix}Model", f"{prefix}TextForCausalLM"):
        r.reasons.append(f"architectures = {names[0]}: not a class of the text model")
    optional = " ".join(word for word, _ in OPTIONAL_TASKS.items() if any(word.capitalize() in each for each in known))
    return published(f"{prefix} {prefix}Text", optional)


def has_tie(r: Reader) -> bool:
    """Whether the config or the type's defaults say if the head is tied."""
    return r.has("tie_word_embeddings") or "tie_word_embeddings" in r.defaults


def last_of_all(head: Head) -> Head:
    """A classifier of a sequence as decoders are published with it: on every token, of which the last one counts."""
    return head.replace(pooled=True, every_position=True)


def classifier(input_size: int, outputs: int, *, role: Role, bias: bool = False, pooled: bool = False) -> Head:
    """A plain linear classifier."""
    return Head(
        kind="classifier",
        input_size=input_size,
        output_size=outputs,
        tied=False,
        bias=bias,
        pooled=pooled,
        tied_to=role,
    )
