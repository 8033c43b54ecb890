"""The flow as a Kubeflow pipeline: wiring only. The steps are those of `components`."""
