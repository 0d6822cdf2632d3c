"""The official client of OpenAI's API against `wick serve`. Run by ci/clients."""

import json
import os
import threading
import typing

import openai
import pydantic
import pytest

URL = os.environ["WICK_URL"]
LIGHT = [{"role": "user", "content": "turn on the light in the kitchen"}]
ON = '{"device":"light","room":"kitchen","action":"on"}'


@pytest.fixture
def client():
    return openai.OpenAI(base_url=URL + "/v1", api_key="none", max_retries=0)


def test_models(client):
    assert [model.id for model in client.models.list()] == ["nano"]
    assert client.models.retrieve("nano").id == "nano"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_chat(client):
    answer = client.chat.completions.create(model="nano", messages=LIGHT, temperature=0)
    assert answer.choices[0].message.content == ON
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_chat_streams(client):
    options = {"include_usage": True}
    stream = client.chat.completions.create(
        model="nano", messages=LIGHT, temperature=0, stream=True, stream_options=options
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == ON
    assert chunks[-1].usage.completion_tokens > 5
    with client.chat.completions.stream(model="nano", messages=LIGHT, temperature=0) as helper:
        assert helper.get_final_completion().choices[0].message.content == ON


def test_embeddings(client):
    texts = ["turn on the light", "what is 7 times 8?"]
    # The client asks for base64 of its own accord.
    answer = client.embeddings.create(model="nano", input=texts)
    vectors = [one.embedding for one in answer.data]
    floats = client.embeddings.create(model="nano", input=texts, encoding_format="float")
    for vector, other in zip(vectors, floats.data):
        assert abs(sum(value * value for value in vector) - 1) < 1e-4
        assert vector == pytest.approx(other.embedding)
    assert answer.usage.prompt_tokens == floats.usage.total_tokens > 5
    with pytest.raises(openai.BadRequestError, match="dimensions"):
        client.embeddings.create(model="nano", input=texts, dimensions=3)


def test_choices_and_log_probabilities(client):
    answer = client.chat.completions.create(
        model="nano", messages=LIGHT, n=2, seed=3, temperature=1, logprobs=True, top_logprobs=3
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    for token in answer.choices[0].logprobs.content:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3
    again = client.chat.completions.create(
        model="nano", messages=LIGHT, n=2, seed=3, temperature=1, logprobs=True, top_logprobs=3
    )
    assert [c.message.content for c in again.choices] == [c.message.content for c in answer.choices]


def test_structured_outputs(client):
    class Lamp(pydantic.BaseModel):
        room: typing.Literal["hall", "bath"]
        level: typing.Annotated[int, pydantic.Field(ge=0, le=99)]

    for seed in range(4):
        answer = client.chat.completions.parse(
            model="nano", messages=LIGHT, seed=seed, temperature=2, max_tokens=100, response_format=Lamp
        )
        assert answer.choices[0].message.parsed.level < 100
    answer = client.chat.completions.create(
        model="nano", messages=LIGHT, temperature=0, response_format={"type": "json_object"}
    )
    assert json.loads(answer.choices[0].message.content)["action"] == "on"


def test_tools(client):
    level = {"type": "integer", "minimum": 0, "maximum": 9}
    parameters = {"type": "object", "properties": {"level": level}, "required": ["level"]}
    parameters["additionalProperties"] = False
    tools = [{"type": "function", "function": {"name": "dim", "parameters": parameters}}]
    asked = dict(
        model="nano", messages=LIGHT, tools=tools, tool_choice="required", temperature=2, seed=1,
        parallel_tool_calls=False, max_tokens=100,
    )
    choice = client.chat.completions.create(**asked).choices[0]
    assert choice.finish_reason == "tool_calls"
    [call] = choice.message.tool_calls
    assert call.function.name == "dim"
    assert json.loads(call.function.arguments)["level"] < 10
    chunks = list(client.chat.completions.create(**asked, stream=True))
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    parts = [p for c in chunks for p in c.choices[0].delta.tool_calls or []]
    assert parts[0].function.name == "dim"
    assert "".join(part.function.arguments for part in parts) == call.function.arguments
    result = {"role": "tool", "tool_call_id": call.id, "content": "done"}
    asked["messages"] = LIGHT + [choice.message, result]
    asked["tool_choice"] = "none"
    answer = client.chat.completions.create(**asked).choices[0].message
    assert answer.tool_calls is None and answer.content


def test_completions(client):
    answer = client.completions.create(model="nano", prompt="abc", max_tokens=4, temperature=0)
    assert answer.usage.completion_tokens == 4
    stream = client.completions.create(
        model="nano", prompt="abc", max_tokens=4, temperature=0, stream=True
    )
    assert "".join(part.choices[0].text for part in stream) == answer.choices[0].text


def test_errors(client):
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(
            model="nano", messages=[{"role": "user", "content": "lamp " * 600}]
        )
    assert error.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model="nano", messages=LIGHT, temperature=-1)
    assert error.value.param == "temperature"
    image = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(
            model="nano", messages=[{"role": "user", "content": image}]
        )


def test_a_client_that_leaves_does_no_harm(client):
    stream = client.chat.completions.create(model="nano", messages=LIGHT, stream=True)
    next(iter(stream))
    stream.close()
    test_chat(client)


def test_several_at_once_get_what_each_gets_alone(client):
    def ask(i):
        return client.chat.completions.create(
            model="nano",
            messages=[{"role": "user", "content": f"what is {i} plus {i}?"}],
            seed=i,
            temperature=1.5,
            max_tokens=20,
        ).choices[0].message.content

    alone = [ask(i) for i in range(8)]
    found = [None] * 8

    def keep(i):
        found[i] = ask(i)

    threads = [threading.Thread(target=keep, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == alone
    assert json.loads(ON)["room"] == "kitchen"
