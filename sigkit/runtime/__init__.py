"""The OCI runtime: a bundle directory (config.json and rootfs) becomes a confined process."""
