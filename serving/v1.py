"""The V1 protocol for clients that know no other: one instance is one study.

https://kserve.github.io/website, V1 Inference Protocol. An instance is
`{"views": [{"b64": ...}, ...], "body_part": "XR_WRIST"}`, or `{"b64": ...}` for a study of one
view; its prediction holds the outputs of v2 by their names.
"""

from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.oip.errors import BadRequestError, NotReadyError
from serving.oip.json_form import from_base64, parse_json
from serving.oip.model import Call, Models
from serving.oip.rest import Rest, json_response
from serving.oip.tensors import InferRequest, InferResponse, Tensor, Wanted
from serving.studies import OUTPUTS

_TOLD = tuple(spec.name for spec in OUTPUTS if not spec.on_request and spec.name != "view_cam")


def v1_routes(rest: Rest, models: Models) -> list[Route]:
    """The routes of V1."""

    async def list_models(_: Request, __: Call) -> Response:
        return json_response({"models": models.names})

    async def model(request: Request) -> Response:
        found = models.find(request.path_params["model_name"])
        if not found.ready:
            raise NotReadyError(f"model {found.name} is not ready")
        return json_response({"name": found.name, "ready": True})

    async def predict(request: Request, call: Call) -> Response:
        found = models.find(request.path_params["model_name"])
        instances = _instances(parse_json(await rest.body(request, call)))
        response = await models.infer(found, as_request(instances), call)
        study_of = [at for at, views in enumerate(instances) for _ in views["views"]]
        predictions = as_predictions(response, study_of)
        return json_response({"predictions": predictions, "parameters": response.parameters})

    return [
        rest.route("/v1/models", "read", list_models),
        rest.route("/v1/models/{model_name}:predict", "infer", predict, "POST"),
        rest.health("/v1/models/{model_name}", model),
    ]


def as_request(instances: list[dict[str, Any]]) -> InferRequest:
    """Instances as the request of v2 that asks the same.

    Raises:
        BadRequestError: names the instance that is not what it should be.
    """
    images, study_of, parts = [], [], []
    for number, instance in enumerate(instances):
        where = f"instances[{number}]"
        for at, view in enumerate(instance["views"]):
            images.append(from_base64(_text(view), f"{where}.views[{at}].b64"))
            study_of.append(number)
        part = instance.get("body_part", "")
        if not isinstance(part, str):
            raise BadRequestError(f"{where}.body_part: expected a text")
        parts.append(part.encode())
    return InferRequest(
        inputs=(
            Tensor(name="image", datatype="BYTES", shape=(len(images),), values=images),
            Tensor(
                name="study",
                datatype="INT32",
                shape=(len(images),),
                values=np.array(study_of, np.int32),
            ),
            Tensor(name="body_part", datatype="BYTES", shape=(len(parts),), values=parts),
        ),
        outputs=tuple(Wanted(name=name) for name in _TOLD),
    )


def as_predictions(response: InferResponse, study_of: list[int]) -> list[dict[str, Any]]:
    """What is told of each study, by the names of v2."""
    predictions: list[dict[str, Any]] = [{} for _ in range(max(study_of) + 1)]
    for tensor in response.outputs:
        told = _plain(tensor)
        for study, prediction in enumerate(predictions):
            if tensor.name.startswith("study_"):
                prediction[tensor.name] = told[study]
            else:
                prediction[tensor.name] = [
                    value for value, owner in zip(told, study_of, strict=True) if owner == study
                ]
    return predictions


def _plain(tensor: Tensor) -> list[Any]:
    if isinstance(tensor.values, np.ndarray):
        return list(tensor.values.tolist())
    texts = np.array([bytes(value).decode() for value in tensor.values], object)
    return list(texts.reshape(tensor.shape).tolist())


def _instances(document: dict[str, Any]) -> list[dict[str, Any]]:
    instances = document.get("instances")
    if not isinstance(instances, list) or not instances:
        raise BadRequestError("instances: expected a list of one study or more")
    return [_instance(instance, f"instances[{at}]") for at, instance in enumerate(instances)]


def _instance(instance: object, where: str) -> dict[str, Any]:
    if not isinstance(instance, dict):
        raise BadRequestError(f"{where}: expected an object")
    views = instance.get("views", [instance] if "b64" in instance else None)
    if not isinstance(views, list) or not views:
        raise BadRequestError(f'{where}.views: expected a list of {{"b64": ...}}, one or more')
    return {**instance, "views": views}


def _text(view: object) -> object:
    return view.get("b64") if isinstance(view, dict) else None
