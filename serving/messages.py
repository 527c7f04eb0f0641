"""What requests and answers look like: the OpenAPI page is made from these, with their examples."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from schemas.ids import TECHNIQUE
from serving.predictors import Precision

REPORT = (
    "The group sent phishing mails with a macro. The macro started PowerShell and downloaded a loader. "
    "Files were encrypted and a note asked for a ransom."
)


def _encodable(text: str) -> str:
    """The text, if it is Unicode: JSON can also hold halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"character {error.start} is half of a surrogate pair: send valid Unicode") from None
    return text


Text = Annotated[str, AfterValidator(_encodable)]
VersionName = Annotated[
    Text | None,
    Field(None, max_length=20, description="a version to ask, such as v0002; none: the one that serves"),
]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ClassifyRequest(_Request):
    """Texts to classify: sentences, or whole reports."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"texts": [REPORT]}]})
    texts: list[Text] = Field(min_length=1, description="plain text")
    sentences: bool = Field(True, description="whether each sentence is answered too")
    version: VersionName = None


class LabelsAnswer(BaseModel):
    """What is said of a text or a sentence."""

    tactics: list[str] = Field(description="the tactics over the threshold of the version, most probable first")
    probabilities: dict[str, float] = Field(description="tactic -> calibrated probability, 0 to 1")
    severity: str | None = Field(None, description="the most probable severity; none: the version knows none")
    severity_probability: float | None = None


class ExampleAnswer(BaseModel):
    """An example that a technique rests on."""

    text: str
    feed: str
    release: str
    similarity: float = Field(description="cosine similarity of the words, 0 to 1")


class TechniqueAnswer(BaseModel):
    """A technique of a sentence."""

    id: str
    name: str
    by: Literal["stated", "nearest examples"] = Field(description="`stated`: the sentence has its id")
    score: float = Field(description="of the nearest examples, 0 to 3.5; 0 if the sentence states it")
    examples: list[ExampleAnswer]


class SentenceAnswer(LabelsAnswer):
    """What is said of a sentence; `start` and `end` are its place in the text, in characters, half open."""

    start: int
    end: int
    techniques: list[TechniqueAnswer] = Field(
        default_factory=list, description="those that the sentence states, and those of its nearest examples"
    )


class TextAnswer(LabelsAnswer):
    """What is said of a text: its tactics are those of any of its passages."""

    severity_by: Literal["predicted", "stated", ""] = Field(
        "", description="`stated`: looked up, by what `severity_source` says; empty: no severity is known"
    )
    severity_source: str = ""
    sentences: list[SentenceAnswer]


class Source(BaseModel):
    """Which version answered, and how long it took."""

    model: str
    version: str
    latency_ms: dict[str, float] = Field(description="layer -> milliseconds: prepare, queue, model, total")


class ClassifyAnswer(Source):
    """An answer for each text, in their order."""

    precision: Precision = Field(description="what the layers of the version compute in")
    answers: list[TextAnswer]
    technique_precision: float | None = Field(
        None,
        description="share of the techniques said that were right on held-out examples; none: no technique is said "
        "but those that are stated",
    )


class InferRequest(_Request):
    """A question, as RFC-9021 has it."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"query": "How do I detect PowerShell (T1059.001)?"}]}
    )
    query: Text = Field(min_length=1, max_length=20_000)
    inference_type: Text = Field("auto", max_length=40, description="`auto`, or the pathway to take")
    max_tokens: int = Field(1024, ge=1, le=4096)
    temperature: float = Field(0.7, ge=0.0, le=2.0, description="accepted and not used: answers are not sampled")


class InferMetadata(BaseModel):
    """How the answer came about."""

    thalamic_gate: Literal["reflexive", "full_processing"]
    pathway: Literal["threat_analysis", "operational", "informational", "creative"]
    priority: Literal["low", "medium", "high", "critical"]
    latency_ms: float
    sources_used: list[str]
    model_versions: dict[str, str]
    layers_ms: dict[str, float]
    missing: list[str] = Field(description="layers that were away; the answer comes from what is left")


class InferAnswer(BaseModel):
    """The answer of `/v1/infer`."""

    response: str
    metadata: InferMetadata


class ExplainRequest(_Request):
    """A question about a technique, an actor, software or a CVE."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"question": "How do I detect PowerShell (T1059.001)?"}]}
    )
    question: Text = Field(min_length=1, max_length=2_000)
    generate: bool = Field(False, description="whether phi3-mitre-lora writes the answer; else it is made of facts")
    stream: bool = Field(False, description="whether the answer is a stream of server-sent events")
    version: VersionName = None


class AnswerSentence(BaseModel):
    """A sentence, and the feeds with releases and ids that say so."""

    text: str
    sources: list[str]


class LeftOut(BaseModel):
    """A generated sentence that the evidence does not hold."""

    sentence: str
    reason: str


class ExplainAnswer(BaseModel):
    """An answer with its evidence; without sentences nothing is known."""

    question: str
    subject: str = Field(description="id of what the question is about; empty: that is not known")
    intent: str
    sentences: list[AnswerSentence]
    by: str = Field(description="`facts`, or model and version that wrote the sentences")
    left_out: list[LeftOut]
    away: dict[str, str] = Field(description="layer -> why the answer comes without it")
    evidence: dict[str, Any] | None = None


class FeedbackRequest(_Request):
    """What the labels of a text really are."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"text": "The macro started PowerShell.", "tactics": [], "by": "ada"}]},
    )
    text: Text = Field(min_length=1, max_length=20_000)
    tactics: list[Annotated[Text, Field(max_length=60)]] = Field(
        max_length=20, description="the right tactics; none, and no technique: what was said before is taken back"
    )
    techniques: list[Annotated[str, Field(pattern=f"^{TECHNIQUE}$")]] = Field(default_factory=list, max_length=20)
    by: Text = Field(
        min_length=1, max_length=100, description="who says so; with a key, the name of the key counts"
    )


class FeedbackAnswer(BaseModel):
    """The event that was written."""

    id: str
    feed: str
    topic: str


class ChangeRequest(_Request):
    """A version that is to serve, and why; the reason is kept in the log."""

    model: Text = Field(max_length=40)
    version: Text = Field(max_length=20)
    why: Text = Field(min_length=1, max_length=1_000)


class ChangeAnswer(BaseModel):
    """The change, and what served before."""

    model: str
    version: str
    before: str


class PredictRequest(_Request):
    """What was seen of an actor: techniques, or a node of the graph whose techniques are meant."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"seen": ["T1059", "T1566"], "k": 5}]}
    )
    seen: list[Annotated[Text, Field(max_length=100)]] = Field(default_factory=list, max_length=500)
    actor: Text | None = Field(
        None, max_length=200, description="id of a node, such as G0016; its techniques are seen"
    )
    kind: Text = Field(
        "group", max_length=40, description="what kind of source it is: group, malware, tool, campaign"
    )
    k: int = Field(10, ge=1, le=20)
    version: VersionName = None


class PredictedTechnique(BaseModel):
    """A technique that probably comes next."""

    id: str
    name: str
    probability: float
    evidence: list[str] = Field(description="sources of the graph that use it and most of what was seen")


class PredictAnswer(Source):
    """The techniques that probably come next, most probable first."""

    seen: list[str] = Field(description="those of the techniques that the graph has")
    unknown: list[str] = Field(description="those that it does not have; they change nothing")
    techniques: list[PredictedTechnique]


class SimilarRequest(_Request):
    """A node of the graph."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"id": "T1059.001", "k": 5}]})
    id: Text = Field(max_length=200)
    k: int = Field(10, ge=1, le=200)
    version: VersionName = None


class Neighbour(BaseModel):
    """A node beside another one, and what says so."""

    role: str = Field(
        description="what it is to the node: mitigation, detection, rule, user, technique, parent, report, other"
    )
    id: str = Field(description="what people call it, such as M1040, or its id in the graph")
    name: str
    kind: str
    source: str = Field(description="the feed, its release, and the id of what says so")
    text: str = ""
    tactics: list[str] = []


class NeighboursAnswer(BaseModel):
    """A node of the threat graph, and what is beside it."""

    id: str
    name: str
    kind: str
    source: str
    text: str = ""
    tactics: list[str] = []
    aliases: list[str] = []
    platforms: list[str] = []
    severity: str = ""
    status: str = Field("active", description="active, deprecated, revoked or withdrawn")
    revoked_by: str = ""
    facts: list[Neighbour] = Field(default_factory=list, description="at most twelve of each kind")
    totals: dict[str, int] = Field(default_factory=dict, description="role -> how many there are in all")
    similar: list[Neighbour] = Field(default_factory=list, description="the nearest nodes by their embeddings")


class SimilarNode(BaseModel):
    """A node, and the cosine of the angle between the embeddings, -1 to 1."""

    id: str
    kind: str
    name: str
    score: float


class SimilarAnswer(Source):
    """The nearest nodes, nearest first."""

    nodes: list[SimilarNode]
