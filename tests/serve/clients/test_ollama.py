"""The official client of Ollama's API against `wick serve`. Run by ci/clients."""

import json
import os

import ollama
import pytest

LIGHT = [{"role": "user", "content": "turn on the light in the kitchen"}]
ON = '{"device":"light","room":"kitchen","action":"on"}'
GREEDY = {"temperature": 0}


@pytest.fixture
def client():
    return ollama.Client(host=os.environ["WICK_URL"])


def test_chat(client):
    answer = client.chat(model="nano", messages=LIGHT, options=GREEDY)
    assert answer.message.content == ON
    assert answer.done and answer.done_reason == "stop"
    parts = list(client.chat(model="nano", messages=LIGHT, options=GREEDY, stream=True))
    assert "".join(part.message.content for part in parts) == ON
    assert parts[-1].eval_count == answer.eval_count > 5


def test_generate(client):
    prompt = LIGHT[0]["content"]
    answer = client.generate(model="nano", prompt=prompt, options=GREEDY)
    assert answer.response == ON
    parts = list(client.generate(model="nano", prompt=prompt, options=GREEDY, stream=True))
    assert "".join(part.response for part in parts) == ON


def test_format(client):
    answer = client.generate(
        model="nano", prompt=LIGHT[0]["content"], options=GREEDY, format="json"
    )
    assert json.loads(answer.response)["action"] == "on"
    schema = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
    schema["additionalProperties"] = False
    options = {"temperature": 2, "num_predict": 100}
    answer = client.chat(model="nano", messages=LIGHT, options=options, format=schema)
    assert json.loads(answer.message.content)["on"] in (True, False)


def test_tools(client):
    def dim(level: int) -> str:
        """Dims the light."""
        return "done"

    answer = client.chat(model="nano", messages=LIGHT, tools=[dim], options=GREEDY)
    assert answer.message.content and not answer.message.tool_calls
    call = {"function": {"name": "dim", "arguments": {"level": 3}}}
    said = [{"role": "assistant", "content": "", "tool_calls": [call]}]
    told = [{"role": "tool", "content": "done", "tool_name": "dim"}]
    assert client.chat(model="nano", messages=LIGHT + said + told, tools=[dim]).done


def test_models(client):
    assert [model.model for model in client.list().models] == ["nano:latest"]
    assert [model.model for model in client.ps().models] == ["nano:latest"]
    assert client.show("nano").capabilities == ["completion", "tools", "embedding"]
    assert client.pull("nano").status == "success"


def test_embeddings(client):
    answer = client.embed(model="nano", input=["turn on the light", "hi"])
    assert len(answer.embeddings) == 2 and answer.prompt_eval_count > 3
    assert client.embeddings(model="nano", prompt="hi").embedding == answer.embeddings[1]


def test_errors(client):
    with pytest.raises(ollama.ResponseError) as error:
        client.chat(model="other", messages=LIGHT)
    assert error.value.status_code == 404
