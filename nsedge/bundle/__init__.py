"""What a packaged model or adapter is on disk: manifests, files, versions, signatures."""
