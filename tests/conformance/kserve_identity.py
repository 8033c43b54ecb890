"""The identity models on the KServe SDK's own ModelServer.

    python -m tests.conformance.kserve_identity --http_port 8090 --grpc_port 8091

As a user of the SDK writes them: `get_predict_response` knows one output only, so the response is
built the way it does it.
"""

from typing import Any

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer

from tests.conformance.case import IDENTITY_MODELS, ModelUnderTest


class Identity(Model):  # type: ignore[misc]  # kserve is not typed
    """INPUT0 becomes OUTPUT0, INPUT1 becomes OUTPUT1."""

    def __init__(self, model: ModelUnderTest) -> None:
        """Ready at once."""
        super().__init__(model.name)
        self.model = model
        self.ready = True

    def get_input_types(self) -> list[dict[str, Any]]:
        """For the metadata."""
        return self._types("INPUT")

    def get_output_types(self) -> list[dict[str, Any]]:
        """For the metadata."""
        return self._types("OUTPUT")

    async def predict(
        self,
        payload: InferRequest,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> InferResponse:
        """Give back what came, in the form that was asked for."""
        outputs = []
        for entry in payload.inputs:
            array = entry.as_numpy()
            name = entry.name.replace("INPUT", "OUTPUT")
            output = InferOutput(name, list(array.shape), entry.datatype)
            output.set_data_from_numpy(array, binary_data=payload.use_binary_outputs)
            outputs.append(output)
        return InferResponse(
            model_name=self.name,
            infer_outputs=outputs,
            response_id=payload.id,
            use_binary_outputs=payload.use_binary_outputs,
            requested_outputs=payload.request_outputs,
        )

    def _types(self, prefix: str) -> list[dict[str, Any]]:
        return [
            {"name": f"{prefix}{at}", "datatype": datatype, "shape": [-1, -1]}
            for at, datatype in enumerate(self.model.datatypes)
        ]


def main() -> None:
    """Serve until SIGTERM; the SDK reads the ports from the command line as it is imported."""
    ModelServer().start([Identity(model) for model in IDENTITY_MODELS])


if __name__ == "__main__":
    main()
