"""Cohere's Python client: documents ranked."""

import cohere
from checking import EMBEDDINGS, URL, raised, run

QUERY = "when does the ferry leave?"
DOCUMENTS = ["Tea costs two euros.", "The ferry leaves at six.", "Boats lie at the quay."]
client = cohere.ClientV2(api_key="none", base_url=URL)
older = cohere.Client(api_key="none", base_url=URL)


def rerank() -> None:
    told = client.rerank(model=EMBEDDINGS, query=QUERY, documents=DOCUMENTS)
    assert [one.index for one in told.results] == [1, 2, 0]
    assert told.results[0].relevance_score > 0.5 > told.results[2].relevance_score
    assert told.meta.api_version.version == "2"


def the_best_alone() -> None:
    told = client.rerank(model=EMBEDDINGS, query=QUERY, documents=DOCUMENTS, top_n=1)
    assert [one.index for one in told.results] == [1]


def older_rerank_with_texts() -> None:
    given = [{"text": text} for text in DOCUMENTS]
    told = older.rerank(
        model=EMBEDDINGS, query=QUERY, documents=given, top_n=2, return_documents=True
    )
    assert [one.document.text for one in told.results] == DOCUMENTS[1:]


def no_such_model() -> None:
    error = raised(
        cohere.errors.NotFoundError,
        lambda: client.rerank(model="none", query=QUERY, documents=DOCUMENTS),
    )
    assert "no model 'none'" in str(error)


run(rerank, the_best_alone, older_rerank_with_texts, no_such_model)
