"""From approved bundle to answer: the bundle store, the KServe predictor, its client, a demo."""
