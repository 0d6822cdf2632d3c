"""The official client of OpenAI's Responses API against `wick serve`. Run by ci/clients."""

import json
import os
import typing

import openai
import pydantic
import pytest

URL = os.environ["WICK_URL"]
LIGHT = "turn on the light in the kitchen"
ON = '{"device":"light","room":"kitchen","action":"on"}'


class Dim(pydantic.BaseModel):
    level: typing.Literal[10, 20]


@pytest.fixture
def client():
    return openai.OpenAI(base_url=URL + "/v1", api_key="none", max_retries=0)


def test_text(client):
    response = client.responses.create(model="nano", input=LIGHT, temperature=0)
    assert response.output_text == ON and response.status == "completed"
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    messages = [{"role": "user", "content": LIGHT}]
    chat = client.chat.completions.create(model="nano", messages=messages, temperature=0)
    assert chat.choices[0].message.content == response.output_text


def test_streams(client):
    stream = client.responses.create(model="nano", input=LIGHT, temperature=0, stream=True)
    events = list(stream)
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == ON
    with client.responses.stream(model="nano", input=LIGHT, temperature=0) as helper:
        kinds = {event.type for event in helper}
        assert "response.output_text.done" in kinds
        assert helper.get_final_response().output_text == ON


def test_tools(client):
    tool = openai.pydantic_function_tool(Dim, name="dim")
    flat = {"type": "function", **tool["function"]}
    arguments = {"model": "nano", "tools": [flat], "tool_choice": "required", "temperature": 0}
    response = client.responses.create(input=LIGHT, **arguments)
    call = response.output[0]
    assert call.type == "function_call" and json.loads(call.arguments)["level"] in (10, 20)
    with client.responses.stream(input=LIGHT, **arguments) as helper:
        again = helper.get_final_response().output[0]
    assert (again.name, again.arguments) == (call.name, call.arguments)
    told = {"type": "function_call_output", "call_id": call.call_id, "output": "done"}
    said = [{"role": "user", "content": LIGHT}, call.model_dump(), told]
    last = client.responses.create(model="nano", input=said, tools=[flat], max_output_tokens=4)
    assert last.output[0].type == "message"


def test_forms(client):
    response = client.responses.parse(model="nano", input=LIGHT, text_format=Dim, temperature=2)
    assert response.output_parsed.level in (10, 20)


def test_errors(client):
    with pytest.raises(openai.BadRequestError, match="previous_response_id"):
        client.responses.create(model="nano", input="hi", previous_response_id="resp_1")
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(model="nano", input="lamp " * 5000)
    assert error.value.code == "context_length_exceeded"
    short = client.responses.create(model="nano", input=LIGHT, max_output_tokens=2)
    assert short.incomplete_details.reason == "max_output_tokens"
