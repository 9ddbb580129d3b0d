"""OCI: pure parsers of references, descriptors, manifests and image configurations; beside them the registry client and layouts."""
