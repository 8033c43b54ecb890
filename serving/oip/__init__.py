"""The Open Inference Protocol v2 over REST and gRPC, around any model. Knows no radiograph."""
