import asyncio
import base64

import pytest
from kserve import InferInput, InferRequest

from serving.predictor import BonexrayModel, views_of


@pytest.fixture(scope="module")
def model(store):
    champion = store.champion()
    model = BonexrayModel(store.open(champion.digest), champion.version, threads=1)
    model.load()
    assert not model.ready
    model.warm()
    return model


def request_of(*views, **fields):
    data = [base64.b64encode(view).decode() for view in views]
    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(data)], "data": data, **fields}
    return InferRequest(model_name="bonexray", infer_inputs=[InferInput(**tensor)])


def test_the_views_of_a_request_come_back_byte_for_byte():
    assert views_of(request_of(b"\x00\xff", b"", b"abc")) == [b"\x00\xff", b"", b"abc"]


def test_the_content_type_may_be_stated():
    assert views_of(request_of(b"abc", parameters={"content_type": "base64"})) == [b"abc"]


def test_the_answer_holds_the_tensors_that_are_announced(model, png):
    response = asyncio.run(model.predict(request_of(png(60), png(200))))
    announced = model.get_output_types()
    assert [(t.name, t.datatype) for t in response.outputs] == [
        (t["name"], t["datatype"]) for t in announced
    ]
    for tensor, announcement in zip(response.outputs, announced, strict=True):
        fits = zip(tensor.shape, announcement["shape"], strict=True)
        assert all(size in (got, -1) for got, size in fits)


def test_studies_are_read_beside_each_other_and_keep_their_answers(model, png):
    levels = list(range(20, 240, 20))

    async def ask_all():
        return await asyncio.gather(*(model.predict(request_of(png(level))) for level in levels))

    answers = [response.outputs[0].data[0] for response in asyncio.run(ask_all())]
    assert answers == sorted(answers)
    assert len(set(answers)) == len(levels)
